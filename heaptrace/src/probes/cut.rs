//! Stand-in.
use crate::process::elf::{ElfError, ElfFacts};
use heaptrace_common::{function::Shape, probe::{Place, Role, condition}};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter};
use object::ReadRef;
use std::{fmt, ops::Range};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emulation;
impl Emulation { pub fn running() -> Self { Self } }
pub struct Image<'data> { code: Vec<(u64, &'data [u8])> }
impl<'data> Image<'data> {
    pub fn new<R: ReadRef<'data>>(data: R, facts: &ElfFacts) -> Result<Self, ElfError> {
        let code = facts.loads.iter().filter(|l| l.executable).filter_map(|l| Some((l.address, data.read_bytes_at(l.offset, l.size).ok()?))).collect();
        Ok(Self { code })
    }
}
pub struct Request<'a> { pub entry: u64, pub shape: Shape, pub probed: &'a [u64], pub emulation: Emulation }
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind { OneTrap, Stash, EntryAndExits, Stepped }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoCut;
impl fmt::Display for NoCut { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("none") } }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CutSite { pub address: u64, pub role: Role, pub condition: u8, pub size: Place, pub factor: Place, pub result: Place, pub caller_bp: Place, pub pushed: u32, pub emulated: bool, pub shared: bool, pub text: String }
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut { pub kind: Kind, pub sites: Vec<CutSite>, pub unseen_exits: u32, pub passes_on: Vec<u64>, pub own_code: Vec<Range<u64>>, pub why: Option<NoCut> }

pub fn analyse(image: &Image<'_>, request: &Request<'_>) -> Result<Cut, NoCut> {
    let (base, bytes) = image.code.iter().find(|(a, b)| (*a..*a + b.len() as u64).contains(&request.entry)).ok_or(NoCut)?;
    let code = &bytes[(request.entry - base) as usize..];
    let code = &code[..code.len().min(8192)];
    let old = super::site::choose(code, request.shape);
    let site = |address, role| CutSite { address, role, condition: condition::ALWAYS, size: Place::None, factor: Place::None, result: Place::None, caller_bp: Place::Register(5), pushed: 0, emulated: false, shared: false, text: String::new() };
    let (size, factor) = match request.shape {
        Shape::Size0 | Shape::Pages0 => (Place::Register(7), Place::None),
        Shape::Size1 | Shape::Resize => (Place::Register(6), Place::None),
        Shape::Product01 => (Place::Register(7), Place::Register(6)),
        Shape::OutPointer => (Place::Register(2), Place::None),
        Shape::ResizeProduct => (Place::Register(6), Place::Register(2)),
        Shape::Free0 => (Place::None, Place::None),
    };
    let role = if request.shape == Shape::Free0 { Role::Free } else { Role::Begin };
    let mut sites = vec![CutSite { size, factor, pushed: old.pushed.into(), emulated: old.emulated, ..site(request.entry + u64::from(old.offset), role) }];
    let mut passes_on = Vec::new();
    let mut formatter = iced_x86::GasFormatter::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut todo = vec![request.entry];
    if role == Role::Begin {
        while let Some(mut at) = todo.pop() {
            loop {
                if !seen.insert(at) { break; }
                let i = Decoder::with_ip(64, &bytes[(at - base) as usize..], at, DecoderOptions::NONE).decode();
                match i.flow_control() {
                    FlowControl::Return => {
                        let mut text = String::new();
                        formatter.format(&i, &mut text);
                        sites.push(CutSite { result: Place::Register(0), text, ..site(at, Role::Result) });
                        break;
                    }
                    FlowControl::ConditionalBranch => todo.push(i.near_branch_target()),
                    FlowControl::UnconditionalBranch => {
                        let t = i.near_branch_target();
                        if request.probed.contains(&t) { passes_on.push(t); } else { todo.push(t); }
                        break;
                    }
                    FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall => {}
                    _ => break,
                }
                at = i.next_ip();
            }
        }
    }
    Ok(Cut { kind: Kind::Stepped, sites, unseen_exits: 0, passes_on, own_code: vec![request.entry..request.entry + 2000], why: None })
}
