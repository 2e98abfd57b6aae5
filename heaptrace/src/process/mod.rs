//! What /proc and the files behind a process say about it (parsing is pure; `procfs` reads), and what is ours as a process:
//! privileges, priority, and calls that are made apart from us.

pub mod apart;
pub mod cfi;
pub mod command;
pub mod device;
pub mod elf;
pub mod fetched;
pub mod file_cache;
pub mod foreign;
pub mod inherited;
pub mod kernel_version;
pub mod ldso;
pub mod link_map;
pub mod mapped;
pub mod maps;
pub mod mini_debug;
pub mod object;
pub mod one_inode;
pub mod pagemap;
pub mod patience;
pub mod priority;
pub mod privileges;
pub mod procfs;
pub mod served;
pub mod stat;
pub mod statm;
pub mod status;
pub mod system;
pub mod tracefs;
