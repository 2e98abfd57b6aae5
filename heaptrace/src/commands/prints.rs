//! Prints that wait for the symbols of their stacks. Finding them reads debug information, which can take seconds, so that
//! another thread does it, and who prints goes on. Prints come out in order.

use super::names::{Names, of_places};
use crate::{
    model::{self, Location, LocationId, Profile, StackId},
    session::Session,
    symbolize::Found,
};
use std::{collections::VecDeque, sync::mpsc, thread};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

type Lookup = Box<dyn FnOnce() -> model::Names + Send>;

/// See the module. One lookup is under way at a time, and what is needed meanwhile is gathered for the next: each starts
/// a child, and reads its files again.
pub(super) struct Prints<P> {
    names: Names,
    lookups: mpsc::Sender<Lookup>,
    found: UnboundedReceiver<model::Names>,
    /// With the lookup that each waits for; they are counted from 1.
    waiting: VecDeque<(u64, P)>,
    /// Places for the next lookup.
    gathered: (Vec<LocationId>, Vec<Location>),
    begun: u64,
    ended: u64,
}

impl<P> Prints<P> {
    /// Before its caller asks for the processor at once ([`super::outside::Hurry`]), which threads have from who starts them.
    pub fn start() -> Self {
        let (lookups, asked) = mpsc::channel::<Lookup>();
        let (send, found) = unbounded_channel();
        thread::spawn(move || {
            while let Ok(lookup) = asked.recv() {
                if send.send(lookup()).is_err() {
                    break;
                }
            }
        });
        Self {
            names: Names::default(),
            lookups,
            found,
            waiting: VecDeque::new(),
            gathered: Default::default(),
            begun: 0,
            ended: 0,
        }
    }

    /// Adds a print of these stacks of `profile`. It is ready at once if no symbols are needed that were in no print
    /// before, and none before it waits.
    pub fn add(
        &mut self,
        print: P,
        profile: &Profile,
        stacks: impl Iterator<Item = StackId>,
        session: &Session,
    ) {
        let places = self.names.new_in(profile, stacks);
        self.queue(print, places);
        self.look_up(session);
    }

    /// Symbols that were found, for the profile: then [`Self::look_up`]. Never, where none are looked for. Nothing is lost
    /// where it is not waited for to the end.
    pub async fn found(&mut self) -> model::Names {
        if self.begun == self.ended {
            return std::future::pending().await;
        }
        // A thread that is not there any more panicked: then names stay addresses.
        let names = self.found.recv().await.unwrap_or_default();
        self.ended += 1;
        names
    }

    /// Has what was gathered looked up, unless something is.
    pub fn look_up(&mut self, session: &Session) {
        self.begin(|places| {
            let job = session.symbol_job(places);
            move || job.run()
        });
    }

    /// The next print whose symbols were found, as far as there are any.
    pub fn next_ready(&mut self) -> Option<P> {
        let (lookup, _) = self.waiting.front()?;
        if *lookup <= self.ended { self.next_as_it_is() } else { None }
    }

    /// The next print, whether its symbols were found or not.
    pub fn next_as_it_is(&mut self) -> Option<P> {
        self.waiting.pop_front().map(|(_, print)| print)
    }

    /// Whether there are prints.
    pub fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn queue(&mut self, print: P, (ids, places): (Vec<LocationId>, Vec<Location>)) {
        self.gathered.0.extend(ids);
        self.gathered.1.extend(places);
        let lookup = self.begun + u64::from(!self.gathered.0.is_empty());
        self.waiting.push_back((lookup, print));
    }

    fn begin<F: FnOnce() -> Found + Send + 'static>(&mut self, job: impl FnOnce(Vec<Location>) -> F) {
        if self.begun > self.ended || self.gathered.0.is_empty() {
            return;
        }
        let (ids, places) = std::mem::take(&mut self.gathered);
        let job = job(places);
        self.begun += 1;
        // Where this fails, waiting for what it finds does, too.
        let _ = self.lookups.send(Box::new(move || of_places(ids, job())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ProcessId, Symbol};

    /// Prints, and lookups that end when they are told to.
    struct Slow {
        prints: Prints<&'static str>,
        end: mpsc::Sender<()>,
        ends: Option<mpsc::Receiver<()>>,
        runtime: tokio::runtime::Runtime,
    }

    impl Slow {
        fn new() -> Self {
            let (end, ends) = mpsc::channel();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            Self { prints: Prints::start(), end, ends: Some(ends), runtime }
        }

        fn add(&mut self, print: &'static str, ids: &[u32]) {
            let place = |id: &u32| Location::Unmapped { process: ProcessId(0), address: (*id).into() };
            let ids_of = ids.iter().map(|id| LocationId(*id)).collect();
            self.prints.queue(print, (ids_of, ids.iter().map(place).collect()));
            self.begin();
        }

        fn begin(&mut self) {
            let ends = &mut self.ends;
            self.prints.begin(|places| {
                let ends = ends.take().expect("one lookup at a time");
                move || {
                    ends.recv().expect("told to end");
                    let name = format!("{} places", places.len());
                    let symbol = Symbol { name, file: None, line: None, inlined: false };
                    Found { symbols: vec![vec![symbol]; places.len()], notes: Vec::new() }
                }
            });
        }

        /// Ends the lookup under way; the places that it was about.
        fn end(&mut self) -> Vec<u32> {
            self.end.send(()).expect("a lookup");
            let names = self.runtime.block_on(self.prints.found());
            let (end, ends) = mpsc::channel();
            (self.end, self.ends) = (end, Some(ends));
            self.begin();
            names.symbols.iter().map(|(id, _)| id.0).collect()
        }

        fn ready(&mut self) -> Vec<&'static str> {
            std::iter::from_fn(|| self.prints.next_ready()).collect()
        }
    }

    #[test]
    fn prints_stay_in_order_and_what_they_need_meanwhile_is_looked_up_in_one_go() {
        let mut slow = Slow::new();
        slow.add("without", &[]);
        assert_eq!(slow.ready(), ["without"]);
        slow.add("first", &[1]);
        slow.add("known", &[]);
        slow.add("second", &[2, 3]);
        slow.add("third", &[4]);
        slow.add("last", &[]);
        assert_eq!(slow.ready(), [""; 0]);
        assert_eq!(slow.end(), [1]);
        assert_eq!(slow.ready(), ["first", "known"]);
        assert!(slow.prints.are_waiting());
        assert_eq!(slow.end(), [2, 3, 4]);
        assert_eq!(slow.ready(), ["second", "third", "last"]);
        assert!(!slow.prints.are_waiting());
    }

    #[test]
    fn who_cannot_wait_takes_the_oldest_and_its_symbols_come_later() {
        let mut slow = Slow::new();
        slow.add("first", &[1]);
        slow.add("second", &[]);
        assert_eq!(slow.prints.next_as_it_is(), Some("first"));
        assert_eq!(slow.ready(), [""; 0]);
        assert_eq!(slow.end(), [1]);
        assert_eq!(slow.ready(), ["second"]);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_looked_for_nor_lost_where_it_is_not_waited_for() {
        let mut slow = Slow::new();
        let found = |slow: &mut Slow| {
            slow.runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = slow.prints.found() => true,
                    () = tokio::task::yield_now() => false,
                }
            })
        };
        assert!(!found(&mut slow));
        slow.add("first", &[1]);
        assert!(!found(&mut slow));
        assert_eq!(slow.end(), [1]);
        assert!(!found(&mut slow));
    }

    #[test]
    fn a_lookup_that_panics_costs_names_only() {
        let mut slow = Slow::new();
        slow.end = mpsc::channel().0;
        for print in ["first", "second"] {
            slow.add(print, &[1]);
            let names = slow.runtime.block_on(slow.prints.found());
            assert_eq!((names.symbols, slow.ready()), (Vec::new(), vec![print]));
            slow.ends = Some(mpsc::channel().1);
        }
    }
}
