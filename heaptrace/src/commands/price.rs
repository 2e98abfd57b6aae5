//! What running processes pay where every block is traced, said when tracing begins: there are cheaper modes.

use crate::{model::Mode, target::Target};

/// The sentence of `heaptrace NAME`, in `mode`; `trap_ns` is what a probe's hit takes at least, if that was measured. A command
/// is started to be traced, and nobody waits for what it serves.
pub(super) fn of(name: &str, target: &Target, mode: Mode, trap_ns: Option<f64>) -> Option<String> {
    if mode != Mode::Exact || matches!(target, Target::Command(_)) {
        return None;
    }
    let trap = trap_ns
        .map_or_else(|| "a trap".to_owned(), |ns| format!("a trap of {:.1} us or more here", ns / 1000.0));
    let cheaper = if name == "stat" { "allocs" } else { "sampled" };
    Some(format!(
        "exact mode: each malloc and free takes {trap}; programs that do little but allocate become several times slower \
         (--trace {cheaper} costs less)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_tracing_of_what_runs_has_a_price() {
        let pids = Target::Pids(vec![1]);
        let said = of("record", &pids, Mode::Exact, Some(912.0)).expect("a price");
        assert!(
            said.contains("a trap of 0.9 us or more here;") && said.contains("--trace sampled"),
            "{said}"
        );
        let said = of("stat", &pids, Mode::Exact, None).expect("a price");
        assert!(said.contains("takes a trap;") && said.contains("--trace allocs"), "{said}");
        assert_eq!(of("record", &pids, Mode::Allocs, Some(912.0)), None);
        let command = Target::Command(vec!["ls".into()]);
        assert_eq!(of("record", &command, Mode::Exact, Some(912.0)), None);
    }
}
