//! The JSON report in lines, for tools that take one object at a time: the recording, then its processes, then its sites, each with
//! its `type`. Keys are those of [`super::json`].

use super::{
    Options,
    export::{Content, Export, Past, Untold},
    json::{Document, Head, Tail, document},
};
use crate::{model::Profile, printable::write_json};
use serde::Serialize;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "ndjson",
    help: "The same, one object a line: the recording, each process, each site.",
    files: &["*.ndjson", "*.jsonl"],
    content: Content::Views,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

#[derive(Serialize)]
struct Line<T: Serialize> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    value: T,
}

#[derive(Serialize)]
struct Recording<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(flatten)]
    tail: Tail<'a>,
}

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let Document { head, processes, sites, tail } = document(profile, options);
    line("recording", Recording { head, tail }, out)?;
    processes.iter().try_for_each(|process| line("process", process, out))?;
    sites.iter().try_for_each(|site| line("site", site, out))?;
    Ok(None)
}

fn line(kind: &'static str, value: impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    write_json(&Line { kind, value }, out)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, report::json};
    use serde_json::Value;

    /// Whatever the one has, the other has, too.
    #[test]
    fn the_lines_are_the_parts_of_the_json() {
        let profile = full();
        let of = |render: fn(&Profile, &Options, &mut dyn Write) -> io::Result<Untold>| {
            let mut bytes = Vec::new();
            render(&profile, &Options::default(), &mut bytes).expect("memory");
            String::from_utf8(bytes).expect("text")
        };
        let lines: Vec<Value> =
            of(render).lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
        let mut whole: Value = serde_json::from_str(&of(json::EXPORT.render)).expect("an object");
        for (kind, list) in [("process", "processes"), ("site", "sites")] {
            let mut parts: Vec<Value> = lines.iter().filter(|line| line["type"] == kind).cloned().collect();
            parts.iter_mut().for_each(|part| _ = part.as_object_mut().expect("an object").remove("type"));
            let list = whole.as_object_mut().expect("an object").remove(list).expect("a list");
            assert_eq!(Value::Array(parts), list);
        }
        let mut head = lines[0].clone();
        assert_eq!(head.as_object_mut().expect("an object").remove("type"), Some("recording".into()));
        assert_eq!(head, whole);
    }
}
