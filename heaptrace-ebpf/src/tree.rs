//! Finding or making the nodes of a stack. What the tree is: `heaptrace_common::tree`.

use heaptrace_common::{
    stack::MAX_FRAMES,
    tree::{self, BEING_MADE, LINES, Line, MAX_LEVEL, ROOT, WAYS},
};

use crate::{
    maps::{self, CURSORS, NODES, setting},
    share,
    unwind::scratch::Scratch,
    value::{Lookup, Value, at},
};

/// No node: there is no room.
pub const NO_ROOM: u32 = u32::MAX;

/// Times that a node is looked for: another thread may take the place that was found free.
const TRIES: u32 = 3;

/// What [`node_in_line`] says where the node is not in the line: a place is free, this and its number; or none is.
const FREE: u64 = 1 << 32;
const FULL: u64 = 1 << 33;

/// The innermost node of the stack in `scratch`, which a process has; [`NO_ROOM`] if it found none.
#[inline(always)]
pub fn keep(process: u32, scratch: Value<Scratch>) -> u32 {
    let frames = at!(scratch.frames).get();
    let mut node = ROOT;
    let mut n: u32 = 0;
    while n < MAX_FRAMES as u32 {
        if n >= frames {
            break;
        }
        let address = at!(scratch.addresses).masked(u64::from(frames - 1 - n)).get();
        node = tree_node(process, node, address) as u32;
        if node == NO_ROOM {
            if let Some(cursors) = CURSORS.value(0) {
                at!(cursors.nodes_refused).add(1);
            }
            break;
        }
        n += 1;
    }
    node
}

/// The node of `address` under `caller`, made for a process if it is not there. A global function, as those below: the
/// verifier takes it once, and not for each frame.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tree_node(process: u32, caller: u32, address: u64) -> u64 {
    let mut tries = 0;
    while tries < TRIES {
        let found = node_or_place(caller, address);
        if found < FREE {
            return found;
        }
        if found == FULL {
            break;
        }
        let node = node_made(process, found, caller, address);
        if node != 0 {
            return node;
        }
        tries += 1;
    }
    u64::from(NO_ROOM)
}

/// The node of `address` under `caller`; or [`FREE`] and the number that it would have; or [`FULL`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn node_or_place(caller: u32, address: u64) -> u64 {
    let Some(cursors) = CURSORS.value(0) else { return FULL };
    let hash = tree::hash(caller, address);
    let mut level = at!(cursors.tree_level).load() as u32;
    if level > MAX_LEVEL {
        return FULL;
    }
    let mut place = FULL;
    let mut n = 0;
    while n <= MAX_LEVEL {
        let found = node_in_lines(caller, address, tree::chunk(hash, level), tree::line(hash));
        if found < FREE {
            return found;
        }
        // Where it would be looked for first.
        if place == FULL {
            place = found;
        }
        if level == 0 {
            break;
        }
        level -= 1;
        n += 1;
    }
    place
}

/// The same in the lines of a chunk that it may be in, from its own on.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn node_in_lines(caller: u32, address: u64, chunk: u32, line: u32) -> u64 {
    let mut n = 0;
    while n < LINES {
        let found = node_in_line(caller, address, chunk, tree::after(line, n));
        // Behind a line with a free place there is none, or one that is made a second time.
        if found != FULL {
            return found;
        }
        n += 1;
    }
    FULL
}

/// The same in one line.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn node_in_line(caller: u32, address: u64, chunk: u32, line: u32) -> u64 {
    let Some(nodes) = nodes_of(chunk, line) else { return FULL };
    let wanted = tree::link(caller);
    let mut free = FULL;
    let mut way = 0;
    while way < WAYS {
        let node = nodes.at(way);
        let link = at!(node.link).load();
        let number = u64::from(tree::number(chunk, line, way as u32));
        if tree::without_share(link) == wanted && at!(node.address).load() == address {
            return number;
        }
        if link == 0 && free == FULL {
            free = FREE | number;
        }
        way += 1;
    }
    free
}

/// Makes the node at the place that [`node_or_place`] found free. 0 if it is not free any more; [`NO_ROOM`] if the process
/// may have no more.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn node_made(process: u32, free: u64, caller: u32, address: u64) -> u64 {
    let number = free as u32;
    let index = number.wrapping_sub(1);
    let line = index / WAYS as u32;
    let of = share::of(process);
    let Some(nodes) = nodes_of(line / tree::CHUNK_LINES, line % tree::CHUNK_LINES) else {
        return u64::from(NO_ROOM);
    };
    let (Some(cursors), Some(share)) = (CURSORS.value(0), share::record(of)) else {
        return u64::from(NO_ROOM);
    };
    let (made, most) = (at!(cursors.nodes).load(), u64::from(setting!(max_frames)));
    let own = at!(share.frames).load();
    if made >= most || !share::may_take(cursors, of, own, most.wrapping_sub(made)) {
        return u64::from(NO_ROOM);
    }
    let node = nodes.masked(u64::from(index));
    if !at!(node.link).replace(0, BEING_MADE) {
        return 0;
    }
    at!(node.address).store(address);
    at!(node.link).store(tree::with_share(tree::link(caller), of));
    at!(share.frames).add(1);
    maps::count_up(at!(cursors.nodes), 1, at!(cursors.low_nodes));
    u64::from(number)
}

#[inline(always)]
fn nodes_of(chunk: u32, line: u32) -> Option<Value<Line>> {
    NODES.value((chunk, line))
}
