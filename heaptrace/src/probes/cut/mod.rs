//! Cuts: sets of instructions in an allocation function such that every call that returns passes exactly one of them,
//! at a point where the requested size and the result are both known. A probe there sees the whole call in one trap,
//! and no return address is touched. Where there is no such set, a site that keeps the arguments comes before those
//! that see the result.
//!
//! Everything is proven from the file's bytes or not used: control flow by descent (`graph`, `parts`, `noreturn`,
//! `landing_pads`, `references`), where the arguments are (`forward`) and where the result is (`backward`) on every
//! way, and by a minimum cut that no call passes two sites or none (`choose`).

mod answer;
mod backward;
mod build;
mod candidates;
mod choose;
mod early;
mod emulation;
mod fallback;
mod forward;
mod frames;
mod graph;
mod image;
mod instruction;
mod kept;
mod landing_pads;
mod memory;
mod min_cut;
mod node;
mod noreturn;
mod own_code;
mod parts;
mod passes;
mod places;
mod references;
pub mod site;
mod state;
mod tables;

pub(in crate::probes) use answer::MAX_SITES;
pub use answer::{Cut, CutSite, Kind, NoCut, Request};
pub use early::one_site;
pub use emulation::Emulation;
pub use heaptrace_common::probe::{Place, Role};
pub use image::Image;
pub use passes::{passes_through, works_by};

/// Finds where the function's calls can be seen.
pub fn analyse(image: &Image<'_>, request: &Request<'_>) -> Result<Cut, NoCut> {
    let cut = match choose::cut(image, request) {
        Ok(cut) => cut,
        Err(why) => fallback::cut(image, request, why)?,
    };
    checked(image, request, cut)
}

/// Where the calls of a function are seen whose cut did not hold: by its arguments at the beginning and its result at each
/// return, which nothing that it calls can change.
pub fn last_resort(image: &Image<'_>, request: &Request<'_>) -> Result<Cut, NoCut> {
    checked(image, request, fallback::cut(image, request, NoCut::Disagreed)?)
}

fn checked(image: &Image<'_>, request: &Request<'_>, mut cut: Cut) -> Result<Cut, NoCut> {
    if cut.sites.len() > MAX_SITES {
        return Err(NoCut::TooLarge);
    }
    let entry = early::entry_site(image, request.entry, request.shape, request.emulation);
    // One instruction cannot be both: nobody says which of two programs runs first.
    cut.entry = entry.filter(|entry| cut.sites.iter().all(|site| site.address != entry.address));
    Ok(cut)
}

#[cfg(test)]
mod conditions_tests;
#[cfg(test)]
mod ends_tests;
#[cfg(test)]
mod libc_tests;
#[cfg(test)]
mod random_tests;
