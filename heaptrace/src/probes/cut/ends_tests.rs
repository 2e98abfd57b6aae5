//! Where calls begin and end otherwise: in other functions, through hooks, in what is freed; and whose calls count.

use super::conditions_tests::{EMULATION, KEEP, LEAVE, NOP, RBX, RET, TEST, cut, of_image, site};
use super::*;
use crate::fixtures::assembler::program;
use heaptrace_common::function::Shape;

#[test]
fn a_jump_into_another_probed_function_is_seen_there() {
    let program = program(|it| {
        it.raw(&[0x48, 0x85, 0xff]).jcc(4, "other").raw(&KEEP).call("callee").raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE).function("other").raw(&NOP).raw(&RET);
    });
    let (entry, other) = (program.at("entry"), program.at("other"));
    let request = Request { entry, shape: Shape::Size0, probed: &[entry, other], emulation: EMULATION };
    let cut = analyse(&program.image(), &request).expect("a cut");
    assert_eq!((cut.kind, cut.sites.len(), cut.passes_on), (Kind::OneTrap, 1, vec![other]));
}

#[test]
fn a_function_that_others_use_too_gives_results_only() {
    let with = |exported: bool| {
        let program = program(|it| {
            it.label("begin").jmp("other").function("other").raw(&KEEP).call("callee").raw(&TEST);
            it.label("site").jcc(4, "end").label("end").raw(&LEAVE);
        });
        let mut image = program.image();
        if exported {
            image.set_name(program.at("other"), "other");
        }
        let cut = of_image(&image, &program, Shape::Size0).expect("a cut");
        let inner = site(&cut, program.at("site")).clone();
        (cut.kind, inner.role, inner.shared, cut.sites.len())
    };
    assert_eq!(with(false), (Kind::OneTrap, Role::Whole, false, 1));
    assert_eq!(with(true), (Kind::EntryAndExits, Role::Result, true, 2));
}

#[test]
fn a_hook_ends_calls_unseen_and_a_jump_table_hides_them() {
    // mov rax, [rip+0]; test rax, rax; jne hook; ...; hook: jmp rax
    let hooked = program(|it| {
        it.raw(&[0x48, 0x8b, 0x05, 0, 0, 0, 0])
            .raw(&TEST)
            .jcc(5, "hook")
            .raw(&KEEP)
            .call("callee")
            .raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE).label("hook").raw(&[0xff, 0xe0]);
    });
    let cut1 = cut(&hooked, Shape::Size0);
    assert_eq!((cut1.kind, cut1.unseen_exits, cut1.sites.len()), (Kind::OneTrap, 1, 1));
    let table = program(|it| {
        it.raw(&KEEP).label("jump").raw(&[0xff, 0xe0]).raw(&TEST).jcc(4, "end").label("end").raw(&LEAVE);
    });
    let cut2 = cut(&table, Shape::Size0);
    assert_eq!((cut2.kind, cut2.why), (Kind::Stepped, Some(NoCut::Computed(table.at("jump")))));
}

#[test]
fn the_last_resort_tells_a_jump_table_from_an_exit_through_a_pointer() {
    let unseen = |before: &[u8], jump: &[u8]| {
        let program = program(|it| {
            // test rdi, rdi; je end
            it.raw(&[0x48, 0x85, 0xff]).jcc(4, "end").raw(before).label("jump").raw(jump);
            it.label("end").raw(&RET);
        });
        let cut = cut(&program, Shape::Size0);
        assert_eq!((cut.kind, cut.why), (Kind::Stepped, Some(NoCut::Computed(program.at("jump")))));
        cut.unseen_exits
    };
    const JUMP: &[u8] = &[0xff, 0xe0];
    // mov rax, [rip+0]; of a function without a frame, so no epilogue comes before the jump
    assert_eq!(unseen(&[0x48, 0x8b, 0x05, 0, 0, 0, 0], JUMP), 1);
    // mov rax, [rdi+8]
    assert_eq!(unseen(&[0x48, 0x8b, 0x47, 0x08], JUMP), 1);
    // jmp [rdi+8]
    assert_eq!(unseen(&[], &[0xff, 0x67, 0x08]), 1);
    // lea rdx, [rip+0]; movsxd rax, [rdx+rdi*4]; add rax, rdx; notrack jmp rax
    let relative = [0x48, 0x8d, 0x15, 0, 0, 0, 0, 0x48, 0x63, 0x04, 0xba, 0x48, 0x01, 0xd0];
    assert_eq!(unseen(&relative, &[0x3e, 0xff, 0xe0]), 0);
    // mov rax, [rdx+rdi*8]; jmp rax
    assert_eq!(unseen(&[0x48, 0x8b, 0x04, 0xfa], JUMP), 0);
    // jmp [rdi*8+0x100000]
    assert_eq!(unseen(&[], &[0xff, 0x24, 0xfd, 0, 0, 0x10, 0]), 0);
}

#[test]
fn what_is_freed_is_kept_before_the_first_store_or_call() {
    let freeing = |before: &[u8]| {
        let program = program(|it| {
            it.label("push").raw(&[0x53]).raw(before).label("jump").raw(&TEST).jcc(4, "next").label("next");
            it.call("callee").raw(&LEAVE);
        });
        let site = one_site(&program.image(), program.at("entry"), Shape::Free0, EMULATION).expect("a site");
        site.address - program.at("entry")
    };
    // A jump is cheaper than a push, if nothing was stored before it: mov [rip+0], rdi
    assert_eq!(freeing(&NOP), 1);
    // mov rax, [rdi-8]
    assert_eq!(freeing(&[0x48, 0x8b, 0x47, 0xf8]), 1 + 4 + 3);
    assert_eq!(freeing(&[0x48, 0x89, 0x3d, 0, 0, 0, 0]), 0);
    // lock dec dword [rdi]
    assert_eq!(freeing(&[0xf0, 0xff, 0x0f]), 0);
}

#[test]
fn free_of_null_is_not_seen() {
    let program = program(|it| {
        it.raw(&[0x48, 0x85, 0xff]).jcc(4, "end").label("push").raw(&[0x53]).call("callee").raw(&[0x5b]);
        it.label("end").raw(&RET);
    });
    let site = one_site(&program.image(), program.at("entry"), Shape::Free0, EMULATION).expect("a site");
    assert_eq!((site.address, site.role, site.pushed), (program.at("push"), Role::Free, 0));
}

#[test]
fn an_old_block_is_kept_before_it_can_be_freed() {
    let program = program(|it| {
        it.raw(&[0x48, 0x89, 0xf3]).label("begin").raw(&[0x53]).call("callee").raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Resize);
    let begin = site(&cut, program.at("begin"));
    assert_eq!((cut.kind, cut.why, begin.role), (Kind::EntryAndExits, Some(NoCut::TwoEnds), Role::Begin));
    assert_eq!(site(&cut, program.at("site")).role, Role::Result);
}

#[test]
fn an_out_pointers_result_comes_behind_the_last_store() {
    let program = program(|it| {
        // push rbx; mov rbx, rdi; call; mov [rbx], rax; xor eax, eax; jmp; pop rbx; ret
        it.label("begin").raw(&KEEP).call("callee").label("early").raw(&NOP).raw(&[0x48, 0x89, 0x03]);
        it.label("site").jmp("end").label("end").raw(&[0x31, 0xc0]).raw(&LEAVE);
    });
    let cut = cut(&program, Shape::OutPointer);
    assert_eq!(site(&cut, program.at("site")).result, Place::Zero);
    assert_eq!(site(&cut, program.at("begin")).role, Role::Begin);
    assert_eq!(cut.sites.len(), 2);
}

#[test]
fn a_store_before_the_return_is_waited_for_at_any_cost() {
    let program = program(|it| {
        it.raw(&KEEP).call("callee").label("early").raw(&NOP).raw(&[0x48, 0x89, 0x03, 0x31, 0xc0, 0x5b]);
        it.label("ret").raw(&RET);
    });
    let cut = cut(&program, Shape::OutPointer);
    assert_eq!((cut.kind, site(&cut, program.at("ret")).role), (Kind::Stepped, Role::Result));
}

#[test]
fn an_old_block_is_kept_before_a_store() {
    let program = program(|it| {
        // mov [rip+0], rdi
        it.label("begin").raw(&NOP).raw(&[0x48, 0x89, 0x3d, 0, 0, 0, 0]).raw(&NOP).raw(&[0x53]);
        it.call("callee").raw(&TEST).jcc(4, "end").label("end").raw(&LEAVE);
    });
    assert_eq!(site(&cut(&program, Shape::Resize), program.at("begin")).role, Role::Begin);
}

#[test]
fn factors_are_read_apart_until_they_are_multiplied() {
    let program = program(|it| {
        // push rbx; mov rax, rdi; mul rsi; mov rbx, rax; mov rdi, rax; call; test; jcc
        it.raw(&[0x53, 0x48, 0x89, 0xf8, 0x48, 0xf7, 0xe6, 0x48, 0x89, 0xc3]).call("callee").raw(&TEST);
        it.label("site").jcc(4, "end").label("end").raw(&LEAVE);
    });
    let cut = cut(&program, Shape::Product01);
    let site = site(&cut, program.at("site"));
    assert_eq!((site.size, site.factor), (RBX, Place::None));
}

#[test]
fn own_code_holds_functions_between_probed_ones_that_nobody_else_calls() {
    let with = |stranger: bool| {
        let program = program(|it| {
            it.raw(&KEEP).call("between").raw(&TEST).jcc(4, "end").label("end").raw(&LEAVE);
            it.function("between").call("other").raw(&RET).function("other").raw(&RET);
            it.function("stranger");
            if stranger {
                it.call("between");
            }
            it.raw(&RET);
        });
        let (entry, other, between) = (program.at("entry"), program.at("other"), program.at("between"));
        let request = Request { entry, shape: Shape::Size0, probed: &[entry, other], emulation: EMULATION };
        let cut = analyse(&program.image(), &request).expect("a cut");
        cut.own_code.iter().any(|range| range.contains(&between))
    };
    assert!(with(false));
    assert!(!with(true));
}
