//! What to probe: the table of allocation functions, the choice of a site in each, and the discovery of the
//! files that hold them. Decides only; attaching is the BPF side's business.

pub mod allocators;
pub mod callee;
pub mod candidate;
pub mod cut;
mod debug_file;
pub mod discover;
mod elsewhere;
mod entries;
pub mod forward;
pub mod merged_sites;
mod own_calls;
pub mod own_samples;
pub mod plan;
pub mod probe;
pub mod proof;
mod ranges;
pub mod refusal;
pub mod search_order;
mod shares;
pub mod symbol_cache;
pub mod symbols;
mod telltale;
