//! What makes a cut sound, one condition a test: each fails if the analysis forgets it.

use super::frames::Span;
use super::*;
use crate::fixtures::assembler::{self, Assembler, Program, program};
use heaptrace_common::function::Shape;
use heaptrace_common::probe::condition;

pub(super) const EMULATION: Emulation = Emulation { push: true, long_nops: true };

/// push rbx; mov rbx, rdi
pub(super) const KEEP: [u8; 4] = [0x53, 0x48, 0x89, 0xfb];
/// pop rbx; ret
pub(super) const LEAVE: [u8; 2] = [0x5b, 0xc3];
/// test rax, rax
pub(super) const TEST: [u8; 3] = [0x48, 0x85, 0xc0];
pub(super) const RET: [u8; 1] = [0xc3];
const UD2: [u8; 2] = [0x0f, 0x0b];
pub(super) const NOP: [u8; 1] = [0x90];

const RAX: Place = Place::Register(0);
pub(super) const RBX: Place = Place::Register(3);
pub(super) const RDI: Place = Place::Register(7);

pub(super) fn of_image(image: &Image<'_>, program: &Program, shape: Shape) -> Result<Cut, NoCut> {
    let entry = program.at("entry");
    analyse(image, &Request { entry, shape, probed: &[entry], emulation: EMULATION })
}

pub(super) fn cut(program: &Program, shape: Shape) -> Cut {
    of_image(&program.image(), program, shape).expect("a cut")
}

pub(super) fn site(cut: &Cut, address: u64) -> &CutSite {
    let at = |site: &&CutSite| site.address == address;
    cut.sites.iter().find(at).unwrap_or_else(|| panic!("no site at {address:x}: {:#x?}", cut.sites))
}

/// The plainest of allocation functions.
fn plain() -> Program {
    program(|it| {
        it.raw(&KEEP).call("callee").raw(&TEST).label("site").jcc(4, "end").label("end").raw(&LEAVE);
    })
}

#[test]
fn a_jump_at_which_size_and_result_are_known_sees_the_call() {
    let program = plain();
    let cut = cut(&program, Shape::Size0);
    assert_eq!((cut.kind, cut.sites.len(), cut.why), (Kind::OneTrap, 1, None));
    let site = site(&cut, program.at("site"));
    assert_eq!((site.role, site.size, site.result, site.pushed), (Role::Whole, RBX, RAX, 8));
    assert_eq!((site.condition, site.emulated), (condition::ALWAYS, true));
    let total: u64 = cut.bytes.iter().map(|(_, length)| length).sum();
    assert_eq!(total, program.at("callee") - program.at("entry"));
}

#[test]
fn a_size_that_a_call_destroys_is_kept_before() {
    let program = program(|it| {
        // push rbx: the size is in rdi only.
        it.label("begin").raw(&[0x53]).call("callee").raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Size0);
    assert_eq!((cut.kind, cut.why), (Kind::EntryAndExits, Some(NoCut::Apart(program.at("site")))));
    let begin = site(&cut, program.at("begin"));
    assert_eq!((begin.role, begin.size, begin.pushed), (Role::Begin, RDI, 0));
    let result = site(&cut, program.at("site"));
    assert_eq!((result.role, result.result, result.pushed), (Role::Result, RAX, 8));
}

#[test]
fn where_ways_meet_only_what_both_know_is_known() {
    let program = program(|it| {
        it.raw(&KEEP).call("callee").raw(&TEST).jcc(5, "both");
        // xor ebx, ebx
        it.raw(&[0x31, 0xdb]).call("callee").label("both").raw(&NOP).raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Size0);
    // Behind the meeting the size is lost; before it, only one of the ways has its result.
    assert_ne!(cut.kind, Kind::OneTrap);
}

#[test]
fn a_loop_is_left_before_a_site() {
    let program = program(|it| {
        it.raw(&KEEP).label("again").raw(&[0x48, 0x89, 0xdf]).call("callee").raw(&TEST);
        it.label("site").jcc(4, "again").raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Size0);
    let site = site(&cut, program.at("site"));
    assert_eq!((cut.kind, cut.sites.len(), site.condition), (Kind::OneTrap, 1, condition::not_taken(4)));
}

#[test]
fn a_failure_is_seen_where_it_is_known_though_single_stepped() {
    let program = program(|it| {
        it.raw(&[0x48, 0x85, 0xff]).jcc(8, "fail");
        it.raw(&KEEP).call("callee").raw(&TEST).label("site").jcc(4, "end").label("end").raw(&LEAVE);
        it.label("fail").raw(&[0x31, 0xc0, 0xc3]);
    });
    let cut = cut(&program, Shape::Size0);
    let failure = site(&cut, program.at("fail"));
    assert_eq!((cut.kind, failure.result, failure.emulated), (Kind::OneTrap, Place::Zero, false));
}

#[test]
fn a_jump_to_memset_returns_its_first_argument() {
    let program = program(|it| {
        it.raw(&KEEP).call("callee").raw(&[0x48, 0x89, 0xc7, 0x5b]).label("site").jmp("memset");
        // jmp [rip + 0x10]
        it.function("memset").raw(&[0xff, 0x25, 0x10, 0, 0, 0]).label("behind");
    });
    let mut image = program.image();
    image.set_slot(program.at("behind") + 0x10, "memset_s");
    let other = of_image(&image, &program, Shape::Size0);
    assert_eq!(other, Err(NoCut::Leaves(program.at("memset"))));
    image.set_slot(program.at("behind") + 0x10, "memset");
    let cut = of_image(&image, &program, Shape::Size0).expect("a cut");
    assert_eq!(site(&cut, program.at("site")).result, RDI);
}

#[test]
fn code_behind_a_call_that_never_returns_does_not_count() {
    let with = |action: u8| {
        program(|it| {
            it.raw(&KEEP).call("callee").raw(&TEST).label("site").jcc(4, "fatal").raw(&LEAVE);
            // mov edi, action; call message; xor ebx, ebx; xor eax, eax; jmp back
            it.label("fatal").raw(&[0xbf, action, 0, 0, 0]).call("message").label("behind").raw(&LEAVE);
            // test edi, edi; je ret; ud2; ret
            it.function("message").raw(&[0x48, 0x85, 0xff]).jcc(4, "returns").raw(&UD2);
            it.label("returns").raw(&RET);
        })
    };
    let (fatal, harmless) = (with(1), with(0));
    assert_eq!(cut(&fatal, Shape::Size0).kind, Kind::OneTrap);
    // There the call returns what the message left in rax.
    assert_ne!(cut(&harmless, Shape::Size0).kind, Kind::OneTrap);
}

#[test]
fn nothing_may_lead_into_the_middle() {
    let reached = |write: &dyn Fn(&mut Assembler) -> &mut Assembler| {
        let program = program(|it| {
            it.raw(&KEEP).label("middle").call("callee").raw(&TEST).jcc(4, "end").label("end").raw(&LEAVE);
            it.function("stranger");
            write(it);
        });
        let cut = cut(&program, Shape::Size0);
        (cut.kind, cut.why == Some(NoCut::Reached(program.at("middle"))))
    };
    assert_eq!(reached(&|it| it.jmp("middle")), (Kind::Stepped, true));
    assert_eq!(reached(&|it| it.jcc(4, "middle").raw(&RET)), (Kind::Stepped, true));
    // Its address is taken.
    assert_eq!(reached(&|it| it.lea("middle").raw(&RET)), (Kind::Stepped, true));
    assert_eq!(reached(&|it| it.call("entry").raw(&RET)), (Kind::OneTrap, false));
}

#[test]
fn no_relocation_may_point_into_the_middle() {
    let program = plain();
    let mut image = program.image();
    image.tables.pointers = vec![program.at("entry"), program.at("site")];
    let cut = of_image(&image, &program, Shape::Size0).expect("a cut");
    assert_eq!((cut.kind, cut.why), (Kind::Stepped, Some(NoCut::Reached(program.at("site")))));
    image.tables.pointers.pop();
    let mut image = program.image();
    image.tables.pointers = vec![program.at("entry")];
    assert_eq!(of_image(&image, &program, Shape::Size0).expect("a cut").kind, Kind::OneTrap);
}

#[test]
fn a_long_nop_is_a_site_at_the_entry_only() {
    let nop = [0x0f, 0x1f, 0x44, 0, 0];
    let program = program(|it| {
        it.raw(&nop).call("callee").label("middle").raw(&nop).raw(&[0x66, 0x90]).label("ret").raw(&RET);
    });
    let cut = cut(&program, Shape::Size0);
    assert_eq!(site(&cut, program.at("entry")).role, Role::Begin);
    assert!(site(&cut, program.at("entry")).emulated);
    assert_eq!((cut.kind, site(&cut, program.at("ret")).emulated), (Kind::Stepped, false));
}

#[test]
fn a_short_nop_is_a_site_anywhere() {
    let program = program(|it| {
        it.raw(&KEEP).call("callee").label("site").raw(&NOP).raw(&LEAVE);
    });
    assert_eq!(site(&cut(&program, Shape::Size0), program.at("site")).role, Role::Whole);
}

/// The size is in a slot, and the block's address comes back in another one, whose address a callee has.
fn escaping(address: &[u8]) -> Program {
    program(|it| {
        // sub rsp, 24; mov [rsp+16], rdi
        it.raw(&[0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0x7c, 0x24, 0x10]).raw(address).call("callee");
        // mov rax, [rsp+8]; jmp; add rsp, 24; ret
        it.raw(&[0x48, 0x8b, 0x44, 0x24, 0x08]).label("site").jmp("next").label("next");
        it.raw(&[0x48, 0x83, 0xc4, 0x18, 0xc3]);
    })
}

#[test]
fn slots_survive_calls_until_an_address_of_the_stack_gets_out() {
    let program = escaping(&NOP);
    let whole = cut(&program, Shape::Size0);
    assert_eq!((whole.kind, whole.sites[0].size), (Kind::OneTrap, Place::Stack(16)));
    // lea rdi, [rsp+8]; mov rdi, rsp; push rsp; pop rdi
    for address in [&[0x48, 0x8d, 0x7c, 0x24, 0x08][..], &[0x48, 0x89, 0xe7], &[0x54, 0x5f]] {
        let program = escaping(address);
        let cut = cut(&program, Shape::Size0);
        let site = site(&cut, program.at("site"));
        assert_eq!(
            (cut.kind, site.role, site.result),
            (Kind::EntryAndExits, Role::Result, RAX),
            "{address:x?}"
        );
    }
}

#[test]
fn a_result_that_a_callee_writes_is_not_known_before_the_call() {
    let program = program(|it| {
        // sub rsp, 24; mov rbx...: the size is in rbx all the time; lea rsi, [rsp+8]
        it.raw(&KEEP).raw(&[0x48, 0x83, 0xec, 0x10, 0x48, 0x8d, 0x74, 0x24, 0x08]);
        it.label("before").raw(&NOP).call("callee");
        it.raw(&[0x48, 0x8b, 0x44, 0x24, 0x08, 0x48, 0x83, 0xc4, 0x10]).label("behind").raw(&NOP).raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Size0);
    assert_eq!((cut.sites.len(), site(&cut, program.at("behind")).result), (1, RAX));
}

#[test]
fn a_store_that_overlaps_a_slot_destroys_it() {
    let program = program(|it| {
        // sub rsp, 24; mov [rsp+8], rdi; mov dword [rsp+12], 1; call; nop; add rsp, 24; ret
        it.raw(&[0x48, 0x83, 0xec, 0x18, 0x48, 0x89, 0x7c, 0x24, 0x08, 0xc7, 0x44, 0x24, 0x0c, 1, 0, 0, 0]);
        it.call("callee").label("site").raw(&NOP).raw(&[0x48, 0x83, 0xc4, 0x18, 0xc3]);
    });
    assert_eq!(site(&cut(&program, Shape::Size0), program.at("site")).role, Role::Result);
}

#[test]
fn code_that_the_kernel_may_restart_has_no_site() {
    let program = plain();
    let middle = program.at("site");
    for (range, to) in [(middle..middle + 1, 0), (0..1, middle)] {
        let mut image = program.image();
        image.restartable = vec![(range.clone(), to)];
        assert_eq!(of_image(&image, &program, Shape::Size0), Err(NoCut::Restartable(range.start)));
    }
}

#[test]
fn a_call_is_never_a_site() {
    // The result is known before a last call, and nothing else is emulated.
    let program = program(|it| {
        it.raw(&[0x41, 0x54]).raw(&KEEP).call("callee").raw(&[0x49, 0x89, 0xc4]).label("last").call("callee");
        it.raw(&[0x4c, 0x89, 0xe0, 0x5b, 0x41, 0x5c]).label("ret").raw(&RET);
    });
    let cut = cut(&program, Shape::Size0);
    assert!(cut.sites.iter().all(|site| site.address != program.at("last")));
    assert_eq!((cut.kind, site(&cut, program.at("ret")).result), (Kind::Stepped, RAX));
}

#[test]
fn exceptions_land_where_the_table_says() {
    let program = program(|it| {
        it.raw(&KEEP).label("call").call("callee").label("behind").raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE);
        // The pad returns 0.
        it.label("pad").raw(&[0x31, 0xc0]).raw(&LEAVE);
        it.function("table").raw(&[0xff, 0xff, 0x01, 4, 4, 5]).label("hole").raw(&[0, 0]);
    });
    let without = cut(&program, Shape::Size0);
    assert_eq!(without.sites.len(), 1);
    let mut code = program.code.clone();
    code[(program.at("hole") - assembler::BASE) as usize] = (program.at("pad") - program.at("entry")) as u8;
    let (start, end) = (program.at("entry"), program.at("table"));
    let mut image = Image::of_code(assembler::BASE, &code, &[]);
    let landing = Some(program.at("table"));
    image.frames = frames::Frames::of_spans(vec![
        Span { start, end, offset: None, landing },
        Span { start: program.at("callee"), end: program.at("callee") + 1, offset: None, landing: None },
    ]);
    let with = of_image(&image, &program, Shape::Size0).expect("a cut");
    assert_eq!(site(&with, program.at("pad")).result, Place::Zero);
    // A table that cannot be read might say anything.
    image.frames.spans[0].landing = Some(0);
    let unread = of_image(&image, &program, Shape::Size0).expect("a cut");
    assert_eq!((unread.kind, unread.why), (Kind::Stepped, Some(NoCut::LandingPads(start))));
}

#[test]
fn code_that_falls_out_of_its_function_has_no_cut() {
    let program = program(|it| {
        it.raw(&KEEP).label("last").raw(&[0x5b]);
    });
    let error = of_image(&program.image(), &program, Shape::Size0);
    assert_eq!(error, Err(NoCut::FallsOut(program.at("last"))));
}

/// As gcc's assembler makes it, with `cfa` as what the unwind information says.
fn assembled(cfa: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("folder");
    let (source, library) = (folder.path().join("x.s"), folder.path().join("x.so"));
    let code = format!(
        ".globl malloc\n.type malloc, @function\nmalloc: .cfi_startproc\npush %rbx\n.cfi_def_cfa_offset {cfa}\n\
         mov %rdi, %rbx\ncall callee\ntest %rax, %rax\nje 1f\n1: pop %rbx\n.cfi_def_cfa_offset 8\nret\n\
         .cfi_endproc\n.size malloc, .-malloc\ncallee: .cfi_startproc\nmov $8, %eax\nret\n.cfi_endproc\n\
         .section .note.GNU-stack\n"
    );
    std::fs::write(&source, code).expect("source");
    let mut gcc = std::process::Command::new("gcc");
    let status = gcc.args(["-shared", "-nostdlib", "-o"]).args([&library, &source]).status();
    assert!(status.expect("gcc").success());
    std::fs::read(library).expect("library")
}

fn malloc_of(file: &[u8]) -> Cut {
    use crate::process::elf::ElfFacts;
    let facts = ElfFacts::parse(file).expect("facts");
    let image = Image::new(file, &facts).expect("an image");
    let entry = image.definition("malloc").expect("malloc");
    analyse(&image, &Request { entry, shape: Shape::Size0, probed: &[entry], emulation: EMULATION })
        .expect("a cut")
}

#[test]
fn the_stack_pointer_is_where_the_unwind_information_says_or_there_is_no_cut() {
    let right = malloc_of(&assembled(16));
    assert_eq!((right.kind, right.why), (Kind::OneTrap, None));
    let wrong = malloc_of(&assembled(24));
    assert_eq!(wrong.kind, Kind::Stepped);
    assert!(matches!(wrong.why, Some(NoCut::StackPointer(_))), "{wrong:?}");
}
