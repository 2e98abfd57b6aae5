//! The state of the screens, and what actions make of it.

use super::{
    arm::{Answer, Arming},
    columns::{self, Column},
    detail::{self, Detail, SiteOrder},
    filter::{BadFilter, Filter},
    keys::Action,
    order::{Arrangement, Place, arrange},
    row::Row,
    sample::Header,
    state::{Effect, ListState, Mode, ProcessState, Screen},
};
use crate::widgets::scroll::{moved, scrolled};
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug)]
pub struct App {
    pub mode: Mode,
    pub list: ListState,
    pub process: Option<ProcessState>,
    pub rows: Vec<Row>,
    /// Which of them are shown, and where.
    pub places: Vec<Place>,
    pub header: Header,
    pub detail: Detail,
    pub arming: Option<Arming>,
    pub paused: bool,
    /// What became of the last wish; until the next key.
    pub status: Option<String>,
    pub screen: Screen,
}

impl App {
    pub fn new(screen: Screen) -> Self {
        Self {
            mode: Mode::List,
            list: ListState {
                sort: Column::Growth,
                reverse: false,
                filter: Filter::default(),
                filter_text: String::new(),
                tree: false,
                cgroup: false,
                selected: None,
                offset: 0,
            },
            process: None,
            rows: Vec::new(),
            places: Vec::new(),
            header: Header::default(),
            detail: Detail::default(),
            arming: None,
            paused: false,
            status: None,
            screen,
        }
    }

    /// Takes a refresh, unless it is paused.
    pub fn refresh(&mut self, rows: Vec<Row>, header: Header) {
        if self.paused {
            return;
        }
        (self.rows, self.header) = (rows, header);
        self.arrange();
    }

    /// Takes what is known of the opened process.
    pub fn set_detail(&mut self, detail: Detail) {
        if self.paused && self.detail.pid == detail.pid && self.detail.kind == detail.kind {
            return;
        }
        self.detail = detail;
        self.order_sites();
    }

    /// The terminal has another size now.
    pub fn resize(&mut self, screen: Screen) {
        self.screen = screen;
        self.keep_in_view();
    }

    /// Whether some row has probes.
    pub fn traced(&self) -> bool {
        self.header.sources.all || self.rows.iter().any(|row| row.traced.is_some())
    }

    /// Sets the filter.
    ///
    /// # Errors
    /// [`BadFilter`]; then nothing changes.
    pub fn filter(&mut self, text: &str) -> Result<(), BadFilter> {
        self.list.filter = Filter::parse(text)?;
        text.trim().clone_into(&mut self.list.filter_text);
        self.arrange();
        Ok(())
    }

    /// The row of the process that is selected, or opened.
    pub fn current(&self) -> Option<&Row> {
        let identity = self.process.as_ref().map(|process| process.identity).or(self.list.selected)?;
        self.rows.iter().find(|row| row.identity == identity)
    }

    /// Which line of the list is selected.
    pub fn selected_line(&self) -> usize {
        let is_selected = |place: &Place| Some(self.rows[place.row].identity) == self.list.selected;
        self.places.iter().position(is_selected).unwrap_or(0)
    }

    /// Carries an action out.
    pub fn apply(&mut self, action: Action) -> Option<Effect> {
        self.status = None;
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Suspend => return Some(Effect::Suspend),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Help => self.mode = Mode::Help(0),
            Action::Pause => self.paused = !self.paused,
            Action::Back => return self.back(),
            Action::Arm => return self.ask(),
            Action::Disarm => return self.disarm(),
            Action::Flame => return self.current().map(|row| Effect::Flame(row.identity.pid)),
            _ => {
                return match &mut self.mode {
                    Mode::List => self.in_list(action),
                    Mode::Process => self.in_process(action),
                    Mode::Help(above) => {
                        if let Action::Move(movement) = action {
                            *above = moved(*above, movement, 10, usize::MAX).min(self.screen.help_lines);
                        }
                        None
                    }
                    Mode::Filter(_) => {
                        self.type_filter(action);
                        None
                    }
                    Mode::Sort(at) => {
                        if let Action::Move(movement) = action {
                            *at = moved(*at, movement, 5, Column::ALL.len());
                        }
                        let column = Column::ALL[*at];
                        if action == Action::Enter {
                            self.list.sort = column;
                            self.mode = Mode::List;
                            self.arrange();
                        }
                        None
                    }
                    Mode::Arm => self.answer(action),
                };
            }
        }
        None
    }

    fn back(&mut self) -> Option<Effect> {
        match self.mode {
            // Who presses it once too often is not to lose what was traced.
            Mode::List if self.list.filter.is_empty() => {
                self.status = Some("nothing is open; q quits".into())
            }
            // As in other tops, what was looked for is let go first.
            Mode::List => {
                self.list.filter = Filter::default();
                self.list.filter_text.clear();
                self.arrange();
            }
            Mode::Process => {
                self.process = None;
                self.mode = Mode::List;
            }
            _ => {
                self.arming = None;
                self.mode = self.screen();
            }
        }
        None
    }

    /// The screen below what is in front.
    fn screen(&self) -> Mode {
        if self.process.is_some() { Mode::Process } else { Mode::List }
    }

    fn in_list(&mut self, action: Action) -> Option<Effect> {
        let shift = |forward: bool, from: Column| {
            let fit = columns::fit(self.screen.size.0, self.traced(), self.list.cgroup);
            let shown: Vec<Column> = fit.columns.iter().map(|(column, _)| *column).collect();
            let at = shown.iter().position(|column| *column == from).unwrap_or(0);
            // Backwards is almost all the way around.
            let by = if forward { 1 } else { shown.len() - 1 };
            shown[(at + by) % shown.len()]
        };
        match action {
            Action::SortLeft => self.list.sort = shift(false, self.list.sort),
            Action::SortRight => self.list.sort = shift(true, self.list.sort),
            Action::SortMenu => {
                let at = Column::ALL.iter().position(|column| *column == self.list.sort);
                self.mode = Mode::Sort(at.unwrap_or(0));
            }
            Action::Reverse => self.list.reverse = !self.list.reverse,
            Action::Tree => self.list.tree = !self.list.tree,
            Action::Cgroup => self.list.cgroup = !self.list.cgroup,
            Action::Filter => self.mode = Mode::Filter(self.list.filter_text.clone()),
            Action::Enter => {
                let identity = self.current()?.identity;
                self.process = Some(ProcessState {
                    identity,
                    order: SiteOrder::default(),
                    residency: false,
                    expanded: BTreeSet::new(),
                    selected: None,
                    offset: 0,
                });
                self.detail = Detail::default();
                self.mode = Mode::Process;
                return Some(Effect::Detail);
            }
            Action::Move(movement) => {
                let to = moved(self.selected_line(), movement, self.page(), self.places.len());
                self.list.selected = self.places.get(to).map(|place| self.rows[place.row].identity);
                self.keep_in_view();
                return None;
            }
            _ => return None,
        }
        self.arrange();
        None
    }

    fn type_filter(&mut self, action: Action) {
        let Mode::Filter(text) = &mut self.mode else { return };
        match action {
            Action::Type(c) => text.push(c),
            Action::Erase => drop(text.pop()),
            Action::EraseAll => text.clear(),
            Action::Enter => {
                let text = std::mem::take(text);
                match self.filter(&text) {
                    Ok(()) => self.mode = Mode::List,
                    Err(error) => {
                        self.status = Some(error.to_string());
                        self.mode = Mode::Filter(text);
                    }
                }
                return;
            }
            _ => return,
        }
        // What is found is seen while one types; what is not whole yet changes nothing.
        let text = text.clone();
        if let Ok(filter) = Filter::parse(&text) {
            (self.list.filter, self.list.filter_text) = (filter, text);
            self.arrange();
        }
    }

    fn in_process(&mut self, action: Action) -> Option<Effect> {
        let lines = self.site_lines();
        let page = self.page();
        let process = self.process.as_mut()?;
        match action {
            Action::Order => {
                process.order = process.order.next();
                self.order_sites();
                // The first one is what was asked for.
                let first = self.detail.sites.first().map(|site| (site.id, 0));
                if let Some(process) = &mut self.process {
                    process.selected = first;
                }
                self.keep_in_view();
                return Some(Effect::Detail);
            }
            Action::Residency => process.residency = !process.residency,
            Action::Enter => {
                let (site, _) = process.selected?;
                if !process.expanded.remove(&site) {
                    process.expanded.insert(site);
                }
                process.selected = Some((site, 0));
            }
            Action::Move(movement) => {
                let at = lines.iter().position(|line| Some(*line) == process.selected).unwrap_or(0);
                process.selected = lines.get(moved(at, movement, page, lines.len())).copied();
            }
            _ => {}
        }
        self.keep_in_view();
        None
    }

    /// The lines of the sites: which site, and which line of it.
    pub fn site_lines(&self) -> Vec<(usize, usize)> {
        let Some(process) = &self.process else { return Vec::new() };
        let lines = |site: &detail::SiteRow| {
            let more = if process.expanded.contains(&site.id) { site.frames.len() } else { 0 };
            (0..=more).map(|line| (site.id, line)).collect::<Vec<_>>()
        };
        self.detail.sites.iter().flat_map(lines).collect()
    }

    fn ask(&mut self) -> Option<Effect> {
        let row = self.current()?;
        let (pid, comm) = (row.identity.pid, row.about.comm.clone());
        if row.traced.is_some() {
            self.status = Some(format!("{comm} ({pid}) is traced already; T ends that"));
            return None;
        }
        if self.header.sources.all {
            self.status = Some("everything that can be is traced (--all)".into());
            return None;
        }
        self.arming = Some(Arming { pid, name: comm, answer: Answer::Wait });
        self.mode = Mode::Arm;
        Some(Effect::Examine(pid))
    }

    fn answer(&mut self, action: Action) -> Option<Effect> {
        let arming = self.arming.as_ref()?;
        let can = matches!(arming.answer, Answer::Can(_));
        if action != Action::Enter || arming.answer == Answer::Wait {
            return None;
        }
        let pid = arming.pid;
        self.arming = None;
        self.mode = self.screen();
        can.then_some(Effect::Arm(pid))
    }

    fn disarm(&mut self) -> Option<Effect> {
        let row = self.current()?;
        let (pid, comm) = (row.identity.pid, &row.about.comm);
        if row.traced.is_none() {
            self.status = Some(format!("{comm} ({pid}) is not traced; t begins that"));
        } else if self.header.sources.all {
            self.status = Some("with --all one process cannot be left out".into());
        } else {
            return Some(Effect::Disarm(pid));
        }
        None
    }

    fn arrange(&mut self) {
        let ListState { sort, reverse, filter, tree, .. } = &self.list;
        let how = Arrangement { sort: *sort, reverse: *reverse, filter, tree: *tree };
        self.places = arrange(&self.rows, &how);
        let known = |place: &Place| Some(self.rows[place.row].identity) == self.list.selected;
        if !self.places.iter().any(known) {
            // Whoever stands where it stood.
            let at = self.list.offset.min(self.places.len().saturating_sub(1));
            self.list.selected = self.places.get(at).map(|place| self.rows[place.row].identity);
        }
        self.keep_in_view();
    }

    fn order_sites(&mut self) {
        let order = self.process.as_ref().map_or_else(SiteOrder::default, |process| process.order);
        detail::sort(&mut self.detail.sites, order);
        let lines = self.site_lines();
        if let Some(process) = &mut self.process {
            let known = process.selected.is_some_and(|selected| lines.contains(&selected));
            if !known {
                process.selected = lines.first().copied();
            }
        }
        self.keep_in_view();
    }

    /// Lines of what can be scrolled.
    fn page(&self) -> usize {
        match self.screen() {
            Mode::Process => self.screen.site_page,
            _ => self.screen.list_page,
        }
        .max(1)
    }

    fn keep_in_view(&mut self) {
        let page = self.page();
        let selected = self.selected_line();
        // Of the list, also while something is in front of it.
        let list_page = self.screen.list_page.max(1);
        self.list.offset = scrolled(self.list.offset, selected, list_page, self.places.len());
        let lines = self.site_lines();
        if let Some(process) = &mut self.process {
            let at = lines.iter().position(|line| Some(*line) == process.selected).unwrap_or(0);
            process.offset = scrolled(process.offset, at, page, lines.len());
        }
    }
}
