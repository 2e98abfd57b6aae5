use super::*;
use crate::fixtures::first_bytes::*;
use proptest::prelude::*;

fn site(offset: u32, pushed: u16, emulated: bool, why: Why) -> Site {
    Site { offset, pushed, emulated, why }
}

fn entry() -> Site {
    site(0, 0, true, Why::Entry)
}

fn prologue(offset: u32) -> Site {
    site(offset, 0, true, Why::Prologue)
}

fn stepped() -> Site {
    site(0, 0, false, Why::NothingEmulated)
}

#[test]
fn glibc_2_36() {
    assert_eq!(choose(GLIBC_MALLOC, Shape::Size0), entry());
    assert_eq!(choose(GLIBC_CALLOC, Shape::Product01), entry());
    assert_eq!(choose(GLIBC_REALLOC, Shape::Resize), entry());
    // Past `test rdi, rdi; je`, on `push rbp`.
    assert_eq!(choose(GLIBC_FREE, Shape::Free0), site(9, 0, true, Why::PastNullCheck));
    // `cmp byte [rip+x], 0; push r12` and `cmp byte [rip+x], 0; je`.
    assert_eq!(choose(GLIBC_POSIX_MEMALIGN, Shape::OutPointer), prologue(7));
    assert_eq!(choose(GLIBC_ALIGNED_ALLOC, Shape::Size1), prologue(7));
    // `mul rdx` overwrites an argument before the first branch.
    assert_eq!(choose(GLIBC_REALLOCARRAY, Shape::ResizeProduct), stepped());
}

#[test]
fn musl_1_2_3() {
    // Thunks of one `jmp`.
    assert_eq!(choose(MUSL_MALLOC, Shape::Size0), entry());
    assert_eq!(choose(MUSL_FREE, Shape::Free0), entry());
    assert_eq!(choose(MUSL_ALIGNED_ALLOC, Shape::Size1), entry());
    // `mov rsi, rdi; mov edi, 4096; jmp memalign`: the size has moved by the time of the jump.
    assert_eq!(choose(MUSL_VALLOC, Shape::Size0), stepped());
}

#[test]
fn jemalloc_5_3() {
    assert_eq!(choose(JEMALLOC_MALLOC, Shape::Size0), prologue(7));
    // Nine instructions of arithmetic before the first branch, and none of them touches the argument.
    assert_eq!(choose(JEMALLOC_FREE, Shape::Free0), prologue(48));
    assert_eq!(choose(JEMALLOC_RALLOCX, Shape::Resize), prologue(2));
    // `test rdi, rdi; je; sub rsp, 8; call`: the probe must be told of the eight bytes.
    assert_eq!(choose(JEMALLOC_ZDLPVM, Shape::Free0), site(9, 8, true, Why::PastNullCheck));
}

#[test]
fn tcmalloc_2_10() {
    assert_eq!(choose(TCMALLOC_MALLOC, Shape::Size0), prologue(10));
    assert_eq!(choose(TCMALLOC_FREE, Shape::Free0), prologue(10));
    assert_eq!(choose(TCMALLOC_POSIX_MEMALIGN, Shape::OutPointer), prologue(11));
}

#[test]
fn mimalloc_2_0() {
    // `mov rsi, rdi; mov rdi, fs:[rax]`.
    assert_eq!(choose(MIMALLOC_MALLOC, Shape::Size0), stepped());
    assert_eq!(choose(MIMALLOC_REALLOC, Shape::Resize), stepped());
    // Past the NULL check the argument is overwritten before anything is emulated, so its `je` has to do.
    assert_eq!(choose(MIMALLOC_FREE, Shape::Free0), prologue(6));
    assert_eq!(choose(MIMALLOC_MI_HEAP_MALLOC, Shape::Size1), prologue(7));
}

#[test]
fn endbr64_is_skipped() {
    assert_eq!(choose(CET_MALLOC, Shape::Size0), prologue(4));
    assert_eq!(choose(CET_FREE, Shape::Free0), site(9, 0, true, Why::PastNullCheck));
    assert_eq!(choose(CET_CALLOC, Shape::Product01), prologue(10));
}

#[test]
fn a_shape_that_needs_its_return_gets_no_site_past_a_push() {
    // sub rsp, 8; call
    let code = [0x48, 0x83, 0xec, 0x08, 0xe8, 0x00, 0x10, 0x00, 0x00];
    assert_eq!(choose(&code, Shape::Size0), stepped());
    assert_eq!(choose(&code, Shape::Free0), site(4, 8, true, Why::Prologue));
}

#[test]
fn bytes_pushed_before_the_site_are_counted() {
    // endbr64; push 1; sub rsp, 16; test rdi, rdi; je +20; push rbx
    let code = [
        0xf3, 0x0f, 0x1e, 0xfa, 0x6a, 0x01, 0x48, 0x83, 0xec, 0x10, 0x48, 0x85, 0xff, 0x74, 0x14, 0x53, 0xc3,
    ];
    assert_eq!(choose(&code, Shape::Free0), site(15, 24, true, Why::PastNullCheck));
}

#[test]
fn a_stack_pointer_that_is_lost_ends_the_search() {
    // and rsp, -16; push rbx
    assert_eq!(choose(&[0x48, 0x83, 0xe4, 0xf0, 0x53], Shape::Free0), stepped());
    // pop rax; push rbx
    assert_eq!(choose(&[0x58, 0x53], Shape::Free0), stepped());
    // lea rsp, [rsp-64]; push rbx
    assert_eq!(choose(&[0x48, 0x8d, 0x64, 0x24, 0xc0, 0x53], Shape::Free0), stepped());
}

#[test]
fn a_changed_argument_ends_the_search_down_to_its_low_byte() {
    // mov dil, 1; push rbx
    assert_eq!(choose(&[0x40, 0xb7, 0x01, 0x53], Shape::Size0), stepped());
    // xor esi, esi; push rbx: matters only to shapes that read the second argument
    assert_eq!(choose(&[0x31, 0xf6, 0x53], Shape::Size0), prologue(2));
    assert_eq!(choose(&[0x31, 0xf6, 0x53], Shape::Size1), stepped());
}

#[test]
fn a_changed_frame_pointer_ends_the_search() {
    // test eax, eax; mov rbp, rsp; jmp
    assert_eq!(choose(&[0x85, 0xc0, 0x48, 0x89, 0xe5, 0xeb, 0x10], Shape::Free0), stepped());
}

#[test]
fn a_branch_back_into_the_prologue_forbids_sites_from_there_on() {
    // test eax, eax; push rbx; ...; jmp 2
    let onto_the_site = [0x85, 0xc0, 0x53, 0x90, 0x90, 0xeb, 0xfb];
    assert_eq!(choose(&onto_the_site, Shape::Size0), stepped());
    // test eax, eax; cdq; push rbx; ...; jmp 2
    let before_the_site = [0x85, 0xc0, 0x99, 0x53, 0x90, 0x90, 0xeb, 0xfa];
    assert_eq!(choose(&before_the_site, Shape::Size0), stepped());
    // test eax, eax; push rbx; nop; jmp 3
    let past_the_site = [0x85, 0xc0, 0x53, 0x90, 0x90, 0xeb, 0xfc];
    assert_eq!(choose(&past_the_site, Shape::Size0), prologue(2));
}

#[test]
fn only_the_null_check_of_a_free_is_passed() {
    // test rdi, rdi; jne +0x10; push rbx: what falls through is NULL
    assert_eq!(choose(&[0x48, 0x85, 0xff, 0x75, 0x10, 0x53], Shape::Free0), prologue(3));
    // test rax, rax; je +0x10; push rbx
    assert_eq!(choose(&[0x48, 0x85, 0xc0, 0x74, 0x10, 0x53], Shape::Free0), prologue(3));
    // test rdi, rdi; je +0x10; push rbx, of an allocation: size 0 allocates
    assert_eq!(choose(&[0x48, 0x85, 0xff, 0x74, 0x10, 0x53], Shape::Size0), prologue(3));
    // cmp rdi, 0; je +0x10; push rbx
    let compared = [0x48, 0x83, 0xff, 0x00, 0x74, 0x10, 0x53];
    assert_eq!(choose(&compared, Shape::Free0), site(6, 0, true, Why::PastNullCheck));
}

#[test]
fn nothing_is_searched_past_a_call_or_a_return() {
    assert_eq!(choose(&[0xff, 0xd0, 0x53], Shape::Free0), stepped());
    assert_eq!(choose(&[0xc3, 0x53], Shape::Free0), stepped());
    assert_eq!(choose(&[0x0f, 0x0b, 0x53], Shape::Free0).offset, 0);
}

#[test]
fn prefixes_are_judged_as_the_kernel_does() {
    // bnd jmp
    assert_eq!(choose(&[0xf2, 0xe9, 0x00, 0x10, 0x00, 0x00], Shape::Size0), entry());
    // push r12 is emulated, push r12 with REX.W is not; push rsp etc. are
    assert_eq!(choose(&[0x41, 0x54], Shape::Size0), entry());
    assert_eq!(choose(&[0x49, 0x54], Shape::Size0), stepped());
    // A multi-byte nop is stepped on most kernels.
    assert_eq!(choose(&[0x0f, 0x1f, 0x40, 0x00, 0x53], Shape::Size0), prologue(4));
    // pause is no nop, and `xchg r8, rax` neither.
    assert_eq!(choose(&[0xf3, 0x90], Shape::Size0), stepped());
    assert_eq!(choose(&[0x49, 0x90], Shape::Size0), stepped());
}

#[test]
fn an_entry_that_the_kernel_refuses_is_avoided() {
    // `66 90`, the two-byte nop that hot-patched functions begin with; then `push rbx`
    assert_eq!(choose(&[0x66, 0x90, 0x53], Shape::Size0), prologue(2));
    // cs nop; mov eax, ecx
    let padded = [0x2e, 0x0f, 0x1f, 0x40, 0x00, 0x89, 0xc8];
    assert_eq!(choose(&padded, Shape::Size0), site(5, 0, false, Why::EntryRefused));
    assert_eq!(choose(&[0x66, 0x90, 0xf4], Shape::Size0), site(0, 0, false, Why::Unprobeable));
    assert_eq!(choose(&[], Shape::Size0), site(0, 0, false, Why::Unprobeable));
}

fn shape() -> impl Strategy<Value = Shape> {
    use Shape::*;
    prop::sample::select(vec![Size0, Size1, Pages0, Product01, OutPointer, Resize, ResizeProduct, Free0])
}

/// Bytes that look more like a prologue than random ones do.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(vec![0xf3, 0x0f, 0x1e, 0xfa]),
        Just(vec![0x48, 0x85, 0xff, 0x74, 0x08]),
        Just(vec![0x48, 0x83, 0xec, 0x18]),
        Just(vec![0x41, 0x57]),
        Just(vec![0x53]),
        Just(vec![0x48, 0x89, 0xf8]),
        prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_site_is_an_instruction_of_the_function(code in code(), shape in shape()) {
        let site = choose(&code, shape);
        let starts: Vec<u64> = decode(&code).iter().map(Instruction::ip).collect();
        prop_assert!(site.offset == 0 || starts.contains(&u64::from(site.offset)));
        prop_assert!((site.offset as usize) < code.len().max(1));
        prop_assert!(site.pushed == 0 || !shape.allocates());
        // Never past a call or a return.
        let before = decode(&code).into_iter().filter(|i| i.ip() < u64::from(site.offset));
        for instruction in before {
            let passable = [FlowControl::Next, FlowControl::ConditionalBranch];
            prop_assert!(passable.contains(&instruction.flow_control()), "{instruction:?}");
        }
    }

    #[test]
    fn any_bytes_are_judged_without_panic(code: Vec<u8>, shape in shape()) {
        let _ = choose(&code, shape);
    }
}
