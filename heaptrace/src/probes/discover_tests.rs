use super::*;
use crate::probes::plan::Probe;
use heaptrace_common::function::{Function, Shape};

fn probe<'a>(plan: &'a Plan, symbol: &str) -> &'a Probe {
    let found = plan.files.iter().flat_map(|file| &file.probes).find(|probe| probe.symbol == symbol);
    found.unwrap_or_else(|| panic!("no probe on {symbol} in {plan:#?}"))
}

#[test]
fn this_process_has_its_allocator_probed_in_one_file() {
    let (view, plan) = Discoverer::new().discover(std::process::id()).expect("discovered");
    assert_eq!(view.identity.pid, std::process::id());
    assert_eq!(view.objects[0].path, std::env::current_exe().expect("exe"));
    let files: Vec<_> = plan.files.iter().map(|file| &file.allocator).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    for (symbol, function, shape) in [
        ("malloc", Function::Malloc, Shape::Size0),
        ("calloc", Function::Calloc, Shape::Product01),
        ("realloc", Function::Realloc, Shape::Resize),
        ("posix_memalign", Function::PosixMemalign, Shape::OutPointer),
        ("free", Function::Free, Shape::Free0),
    ] {
        let probe = probe(&plan, symbol);
        assert_eq!((probe.function, probe.shape), (function, shape));
        assert_eq!(probe.offset, probe.entry + u64::from(probe.site.offset));
    }
}
