//! Children that ran before their parent was named by its PID, and so are left out, as those of a prefork server: how many, and
//! how they are named, too.

use crate::{
    process::procfs,
    session::Session,
    target::{Target, descendants},
    units::counted,
};

/// The sentence, if there are any.
pub(super) fn children(target: &Target, session: &Session) -> Option<String> {
    let Target::Pids(named) = target else { return None };
    let mut left_out = descendants(named).ok()?;
    // Those that were forked since are followed.
    left_out.retain(|pid| !session.knows(*pid));
    let others = named.iter().chain(&left_out);
    let comm = common(&left_out, |pid| procfs::comm(pid).ok());
    let cgroup = common(others, |pid| procfs::cgroup(pid).ok().flatten());
    sentence(named, left_out.len(), comm.as_deref(), cgroup.as_deref())
}

/// What `of` gives for each of `pids`, if that is the same.
fn common<'a>(pids: impl IntoIterator<Item = &'a u32>, of: impl Fn(u32) -> Option<String>) -> Option<String> {
    let mut all = pids.into_iter().map(|pid| of(*pid));
    let first = all.next()??;
    all.all(|other| other.as_ref() == Some(&first)).then_some(first)
}

fn sentence(named: &[u32], count: usize, comm: Option<&str>, cgroup: Option<&str>) -> Option<String> {
    if count == 0 {
        return None;
    }
    let named: Vec<String> = named.iter().map(u32::to_string).collect();
    let mut options = vec!["--tree".to_owned()];
    options.extend(comm.filter(|comm| is_word(comm)).map(|comm| format!("--comm {comm}")));
    // All are below the root.
    let cgroup = cgroup.map(|path| path.trim_start_matches('/')).filter(|path| is_word(path));
    options.extend(cgroup.map(|path| format!("--cgroup {path}")));
    Some(format!(
        "{} of {} ran before and {} left out; to trace them, too: {}",
        counted(count as u64, "child process", "child processes"),
        named.join(", "),
        if count == 1 { "is" } else { "are" },
        options.join(", or ")
    ))
}

/// Whether a shell takes it as it stands.
fn is_word(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_left_out_is_named_in_every_way_that_there_is() {
        assert_eq!(sentence(&[7], 0, None, None), None);
        let said = |comm, cgroup| sentence(&[7, 8], 4, comm, cgroup).expect("a sentence");
        assert_eq!(
            said(Some("nginx"), Some("/system.slice/nginx.service")),
            "4 child processes of 7, 8 ran before and are left out; to trace them, too: --tree, or --comm nginx, or \
             --cgroup system.slice/nginx.service"
        );
        for (comm, cgroup) in [(None, None), (Some("two words"), Some("/")), (Some("-d"), Some("/$(x)"))] {
            assert!(said(comm, cgroup).ends_with("too: --tree"), "{}", said(comm, cgroup));
        }
        let one = sentence(&[7], 1, None, None).expect("a sentence");
        assert!(one.starts_with("1 child process of 7 ran before and is left out"), "{one}");
    }

    #[test]
    fn what_is_common_is_that_of_all() {
        let of = |pid: u32| (pid < 10).then(|| (pid % 2).to_string());
        assert_eq!(common(&[1, 3], of).as_deref(), Some("1"));
        for pids in [&[1, 2][..], &[1, 11], &[]] {
            assert_eq!(common(pids, of), None, "{pids:?}");
        }
    }
}
