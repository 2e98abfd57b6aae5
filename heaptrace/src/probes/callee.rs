//! Which function a call in a file is of, by the name that it was written with: as the instruction before a return address has
//! it, and as the dynamic linker would find it.

use super::{forward::Target, symbols};
use crate::process::object::Object;
use object::ReadCache;

/// The longest call that is looked at: `call *slot(%rip)`.
const LONGEST: u64 = 6;

/// Where the call goes that returns to file offset `offset`. `None` where that is not known before it runs, as of a virtual
/// function.
pub fn target(object: &Object, offset: u64) -> Option<Target> {
    let bytes = object.read_at(offset.checked_sub(LONGEST)?, LONGEST as usize).ok()?;
    let address = object.elf.address_of(offset)?;
    call_before(bytes.try_into().ok()?, address)
}

/// The same of the bytes before `address`.
fn call_before(bytes: [u8; LONGEST as usize], address: u64) -> Option<Target> {
    let [first, second, a, b, c, d] = bytes;
    let at = address.wrapping_add_signed(i32::from_le_bytes([a, b, c, d]).into());
    match (first, second) {
        // call *at(%rip)
        (0xff, 0x15) => Some(Target::Slot(at)),
        // call at
        (_, 0xe8) => Some(Target::Code(at)),
        _ => None,
    }
}

/// What is called there, by all its names; by none where it has none.
pub fn names(object: &Object, target: Target) -> Vec<String> {
    symbols::reached(&ReadCache::new(&**object.file()), &object.elf, target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_the_bytes_before_its_return() {
        assert_eq!(call_before([0x90, 0xe8, 0x10, 0, 0, 0], 0x1000), Some(Target::Code(0x1010)));
        assert_eq!(call_before([0x67, 0xe8, 0xf0, 0xff, 0xff, 0xff], 0x1000), Some(Target::Code(0xff0)));
        assert_eq!(call_before([0xff, 0x15, 8, 0, 0, 0], 0x1000), Some(Target::Slot(0x1008)));
        // call *8(%rax), and what is no call.
        assert_eq!(call_before([0x90, 0x90, 0x90, 0xff, 0x50, 8], 0x1000), None);
        assert_eq!(call_before([0x90; 6], 0x1000), None);
    }
}
