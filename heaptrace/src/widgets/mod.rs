//! What screens share: texts in the room that there is, boxes, moving through lines, numbers in few characters.

pub mod amount;
pub mod line;
pub mod scroll;
pub mod window;
