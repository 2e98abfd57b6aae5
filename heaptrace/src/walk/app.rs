//! The state of the screen, and what actions make of it.

use super::{
    find::{next_found, previous_found},
    help,
    keys::Action,
    search::Search,
    shape::{Group, Shape},
    state::{Effect, Mode, Screen},
    table::Table,
    tree::{Order, Tree},
};
use crate::{
    units::thousands,
    widgets::scroll::{moved, scrolled},
};

/// Nodes that are opened at once at most: more than anybody looks through.
const MOST_OPENED: usize = 200_000;

/// See the module.
pub struct App {
    pub table: Table,
    pub tree: Tree,
    pub shape: Shape,
    pub order: Order,
    /// What shares are of; the tree is of what has something of it.
    pub measure: usize,
    pub mode: Mode,
    /// The nodes that can be seen, from the top.
    pub lines: Vec<usize>,
    /// Which of these is selected, and how many are above the first one that is shown.
    pub selected: usize,
    pub offset: usize,
    pub search: Option<Search>,
    /// What became of the last wish; until the next key.
    pub status: Option<String>,
    pub screen: Screen,
}

impl App {
    /// The tree of `table`, which has a measure, in this shape, by its first measure.
    pub fn new(table: Table, shape: Shape, screen: Screen) -> Self {
        let order = Order { by: Some(0), reverse: false };
        let tree = Tree::new(&table, shape, order, 0);
        let mut app = Self {
            table,
            tree,
            shape,
            order,
            measure: 0,
            mode: Mode::Tree,
            lines: Vec::new(),
            selected: 0,
            offset: 0,
            search: None,
            status: None,
            screen,
        };
        app.begin();
        app
    }

    /// The terminal has another size now.
    pub fn resize(&mut self, screen: Screen) {
        self.screen = screen;
        self.keep_in_view();
    }

    /// The node that is selected; none where there is nothing.
    pub fn current(&self) -> Option<usize> {
        self.lines.get(self.selected).copied()
    }

    /// Carries an action out.
    pub fn apply(&mut self, action: Action) -> Option<Effect> {
        self.status = None;
        if let Action::World(effect) = action {
            return Some(effect);
        }
        match &mut self.mode {
            Mode::Tree => self.in_tree(action),
            Mode::Search(_) => self.type_search(action),
            Mode::Help(above) => match action {
                Action::Move(movement) => *above = moved(*above, movement, 10, usize::MAX),
                Action::Back | Action::Enter => self.mode = Mode::Tree,
                _ => {}
            },
        }
        if let Mode::Help(above) = &mut self.mode {
            let lines = help::lines(&self.table, self.screen.size.0).len();
            *above = (*above).min(lines.saturating_sub(self.screen.help_page));
        }
        None
    }

    fn in_tree(&mut self, action: Action) {
        match action {
            Action::Move(movement) => {
                self.selected = moved(self.selected, movement, self.page(), self.lines.len());
                self.keep_in_view();
            }
            Action::Enter => match self.current() {
                Some(node) if self.tree.node(node).is_open => self.close(node),
                _ => self.open(),
            },
            Action::Open => self.open(),
            Action::Close => {
                let Some(node) = self.current() else { return };
                let parent = self.tree.node(node).parent;
                if self.tree.node(node).is_open {
                    self.close(node);
                } else if parent != Tree::ROOT {
                    self.select(parent);
                }
            }
            Action::OpenAll => {
                let Some(node) = self.current() else { return };
                if !self.tree.open_all(&self.table, node, MOST_OPENED) {
                    let most = thousands(MOST_OPENED as u64);
                    self.status = Some(format!("too many to open all of them: {most} are"));
                }
                self.see(node);
            }
            Action::CloseAll => {
                let Some(mut node) = self.current() else { return };
                while self.tree.node(node).parent != Tree::ROOT {
                    node = self.tree.node(node).parent;
                }
                self.tree.close_all();
                self.see(node);
            }
            Action::Search => {
                let text = self.search.as_ref().map_or_else(String::new, |search| search.text.clone());
                self.mode = Mode::Search(text);
            }
            Action::Next => self.find(next_found),
            Action::Previous => self.find(previous_found),
            Action::Invert => self.reshape(Shape { inverted: !self.shape.inverted, ..self.shape }),
            Action::Group => {
                let at = Group::ALL.iter().position(|group| *group == self.shape.group).unwrap_or(0);
                self.reshape(Shape { group: Group::ALL[(at + 1) % Group::ALL.len()], ..self.shape });
            }
            Action::Frames if self.table.rows.iter().all(|row| row.folded == 0) => {
                self.status = Some("no frame is left out".into());
            }
            Action::Frames => self.reshape(Shape { raw: !self.shape.raw, ..self.shape }),
            Action::Measure => {
                let next = (self.measure + 1) % self.table.measures.len().max(1);
                // What was sorted by the measure is sorted by the new one.
                if self.order.by == Some(self.measure) {
                    self.order.by = Some(next);
                }
                self.measure = next;
                self.reshape(self.shape);
            }
            Action::SortLeft => self.sort_by_next(self.table.measures.len()),
            Action::SortRight => self.sort_by_next(1),
            Action::Reverse => self.sort(Order { reverse: !self.order.reverse, ..self.order }),
            Action::Help => self.mode = Mode::Help(0),
            Action::Back if self.search.take().is_none() => {
                self.status = Some("nothing is searched for; q quits".into());
            }
            _ => {}
        }
    }

    fn open(&mut self) {
        let Some(node) = self.current() else { return };
        if self.tree.node(node).is_open {
            // As in other trees: the first one in it.
            self.selected = moved(self.selected, crate::widgets::scroll::Move::Down, 1, self.lines.len());
            return self.keep_in_view();
        }
        if !self.tree.node(node).has_calls {
            self.status = Some("nothing is below it".into());
            return;
        }
        self.tree.open(&self.table, node);
        self.see(node);
    }

    fn close(&mut self, node: usize) {
        self.tree.close(node);
        self.see(node);
    }

    fn sort_by_next(&mut self, by: usize) {
        // The last column is that of the names.
        let columns = self.table.measures.len() + 1;
        let at = (self.order.by.unwrap_or(columns - 1) + by) % columns;
        self.sort(Order { by: Some(at).filter(|at| *at < columns - 1), ..self.order });
    }

    fn sort(&mut self, order: Order) {
        self.order = order;
        self.tree.sort(&self.table, order);
        let selected = self.current();
        self.lines = self.tree.lines();
        if let Some(node) = selected {
            self.select(node);
        }
    }

    /// Another tree of the same table.
    fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        self.tree = Tree::new(&self.table, shape, self.order, self.measure);
        if let Some(search) = &self.search {
            self.search = Some(Search::new(&search.text, &self.table, shape, self.measure));
        }
        self.begin();
    }

    /// What is there once is opened: there is nothing to choose.
    fn begin(&mut self) {
        if let [only] = self.tree.children(&self.table, Tree::ROOT)[..] {
            self.tree.open(&self.table, only);
        }
        self.lines = self.tree.lines();
        (self.selected, self.offset) = (0, 0);
    }

    fn type_search(&mut self, action: Action) {
        let Mode::Search(text) = &mut self.mode else { return };
        match action {
            Action::Type(c) => text.push(c),
            Action::Erase => drop(text.pop()),
            Action::EraseAll => text.clear(),
            Action::Back => {
                self.mode = Mode::Tree;
                self.search = None;
                return;
            }
            Action::Enter => {
                self.mode = Mode::Tree;
                let is_there = self.current().is_some_and(|node| self.is_found(node));
                if self.search.is_some() && !is_there {
                    self.find(next_found);
                }
                return;
            }
            _ => return,
        }
        // What is found is seen while one types.
        let text = text.trim();
        self.search = (!text.is_empty()).then(|| Search::new(text, &self.table, self.shape, self.measure));
    }

    /// Whether the search finds a node.
    pub fn is_found(&self, node: usize) -> bool {
        self.search.as_ref().is_some_and(|search| search.is_match(self.tree.node(node).what))
    }

    fn find(&mut self, found: fn(&mut Tree, &Table, &Search, usize) -> Option<usize>) {
        let Some(search) = &self.search else {
            self.status = Some("nothing is searched for; / searches".into());
            return;
        };
        let from = self.current().unwrap_or(Tree::ROOT);
        match found(&mut self.tree, &self.table, search, from) {
            Some(node) => {
                self.tree.show(node);
                self.see(node);
            }
            None => self.status = Some(format!("nothing has {} in its name, file or module", search.text)),
        }
    }

    /// What can be seen is not as it was; `node` is selected.
    fn see(&mut self, node: usize) {
        self.lines = self.tree.lines();
        self.select(node);
    }

    fn select(&mut self, node: usize) {
        self.selected = self.lines.iter().position(|line| *line == node).unwrap_or(0);
        self.keep_in_view();
    }

    fn page(&self) -> usize {
        self.screen.page.max(1)
    }

    fn keep_in_view(&mut self) {
        self.offset = scrolled(self.offset, self.selected, self.page(), self.lines.len());
    }
}
