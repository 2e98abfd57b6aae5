//! Where the map's sites are kept, so far.

use super::owners::Owners;
use crate::model::{Site, SiteId};
use std::collections::HashMap;

/// Where a site of the map is kept.
#[derive(Clone, Copy)]
pub(super) enum Kept {
    Site(SiteId),
    /// Index into `growth`.
    Growth(usize),
}

/// The sites so far.
#[derive(Default)]
pub(super) struct KeptSites {
    pub sites: Vec<Site>,
    /// By `SiteId`: since the last chunk.
    pub changed: Vec<bool>,
    /// Of growth and of faults.
    pub growth: Vec<Site>,
    /// By site number in the map.
    pub ids: HashMap<u32, Kept>,
    /// By site number in the map: how often it has waited for its code.
    pub waits: HashMap<u32, u8>,
    pub owners: Owners,
}
