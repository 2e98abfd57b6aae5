//! Small services as Rust has them: see programs/c/service.c. usage: service KIND GO
use std::{
    cell::RefCell,
    collections::HashMap,
    path::Path,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

struct Node {
    text: String,
    next: RefCell<Option<Rc<Node>>>,
}

#[inline(never)]
fn make_node(number: u64) -> Rc<Node> {
    Rc::new(Node { text: format!("node number {number:040}"), next: RefCell::new(None) })
}

/// Every fifth node refers to itself.
fn cycle(number: u64) {
    let node = make_node(number);
    if number % 5 == 0 {
        *node.next.borrow_mut() = Some(Rc::clone(&node));
    }
    std::hint::black_box(node.text.len());
}

#[inline(never)]
fn remember(cache: &mut HashMap<u64, Vec<u8>>, number: u64) {
    cache.insert(number, vec![7; 300 + (number * 7 % 100) as usize]);
    // Those of ten seconds.
    if let Some(old) = number.checked_sub(1_000) {
        cache.remove(&old);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    while !Path::new(&arguments[2]).exists() {
        thread::sleep(Duration::from_millis(10));
    }
    let mut cache = HashMap::new();
    let began = Instant::now();
    for number in 0.. {
        let at = Duration::from_millis(10 * number);
        thread::sleep(at.saturating_sub(began.elapsed()));
        match arguments[1].as_str() {
            "cycle" => cycle(number),
            "cache" => remember(&mut cache, number),
            kind => panic!("no such kind: {kind}"),
        }
    }
}
