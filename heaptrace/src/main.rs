//! The `heaptrace` command.
use heaptrace::bpf::*;
fn main() {
    let t = std::time::Instant::now();
    match Tracer::load(&Options { all: false, follow: true, stacks: StackMode::FramePointers, sizes: MapSizes::default(), growth: true }) {
        Ok((tr, _)) => println!("{:?} {:?}", tr.features, t.elapsed()),
        Err(e) => println!("ERR {e} {:?}", t.elapsed()),
    }
}
