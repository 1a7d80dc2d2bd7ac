//! What is on disk, in memory: the records, their recent past, and who watches them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::Arc,
    time::Instant,
};

use crate::{
    config::Config,
    error::RevisionError,
    history::History,
    intake::Intake,
    page::{Listing, Page, in_key_order},
    record::{Event, Key, Range, Record, Scope},
    watch::Waiter,
};

/// Everything readers and watchers may see. It only ever changes by whole committed writes.
pub(crate) struct State<F> {
    kinds: BTreeMap<Arc<str>, Kind<F>>,
    history: History,
    /// The newest revision on disk.
    revision: u64,
    /// The revision at opening: nothing is known of what happened before.
    opened: u64,
    /// How many bytes the records have.
    bytes: usize,
    /// No further event will come.
    ended: bool,
    /// Who watches all kinds at once.
    waiters: HashMap<u64, Arc<Waiter>>,
    watches_begun: u64,
}

/// All of one kind: its records, its recent events and its watchers.
struct Kind<F> {
    records: BTreeMap<Key, Arc<Record<F>>>,
    /// Ordered by revision, without gaps from `horizon` on.
    events: VecDeque<Event<F>>,
    /// Events up to this revision are forgotten.
    horizon: u64,
    waiters: HashMap<u64, Arc<Waiter>>,
}

/// A watcher's entry.
pub(crate) struct Registered {
    pub(crate) scope: Scope,
    pub(crate) id: u64,
    pub(crate) waiter: Arc<Waiter>,
}

/// What a watcher finds when it looks.
pub(crate) enum Found<F> {
    /// The event, and the revision of the watcher's next one, or 0.
    Event(Event<F>, u64),
    /// History has moved past the watcher.
    Lagged,
}

/// What an event made a thing of the past: only history holds it.
pub(crate) struct Superseded<F> {
    pub(crate) revision: u64,
    /// The version before the event.
    pub(crate) previous: Option<Arc<Record<F>>>,
    /// The last state, when it was a deletion.
    pub(crate) last: Option<Arc<Record<F>>>,
}

/// The same with its bytes elsewhere than in memory.
pub(crate) type Moved<F> = Superseded<F>;

impl<F> State<F> {
    pub(crate) fn new(config: &Config, revision: u64) -> Self {
        State {
            kinds: BTreeMap::new(),
            history: History::new(config),
            revision,
            opened: revision,
            bytes: 0,
            ended: false,
            waiters: HashMap::new(),
            watches_begun: 0,
        }
    }

    /// Takes in a record found on disk at opening.
    pub(crate) fn load(&mut self, record: Record<F>) {
        self.bytes += record.value.len();
        let key = record.key.clone();
        self.kind(&key.kind).records.insert(key, Arc::new(record));
    }

    fn kind(&mut self, name: &Arc<str>) -> &mut Kind<F> {
        self.kinds.entry(name.clone()).or_insert_with(|| Kind {
            records: BTreeMap::new(),
            events: VecDeque::new(),
            horizon: self.opened,
            waiters: HashMap::new(),
        })
    }

    /// Shows one committed write to readers and watchers; who is to be woken goes to `woken`.
    pub(crate) fn publish(
        &mut self,
        record: Arc<Record<F>>,
        deleted: bool,
        now: Instant,
        woken: &mut Vec<Arc<Waiter>>,
    ) {
        let revision = record.revision;
        self.revision = revision;
        let kind = self.kind(&record.key.kind);
        let previous = if deleted {
            kind.records.remove(&record.key)
        } else {
            kind.records.insert(record.key.clone(), record.clone())
        };
        let replaced = previous.as_ref().map_or(0, |previous| previous.value.len());
        let (live, gone) = match deleted {
            true => (0, record.value.len()),
            false => (record.value.len(), 0),
        };
        let key = record.key.clone();
        kind.events.push_back(Event {
            revision,
            record,
            previous,
            deleted,
        });

        self.announce(&key, revision, woken);
        self.bytes = self.bytes + live - replaced;
        self.history
            .remember(revision, key.kind, replaced + gone, now);
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        while let Some(name) = self.history.forget(now) {
            self.kind(&name).forget_oldest();
        }
    }

    /// The oldest past versions that memory should be relieved of, some at a time.
    pub(crate) fn superseded(&self) -> Vec<Superseded<F>> {
        let events = self.history.surplus().filter_map(|revision| {
            let (kind, _) = self.history.find(revision)?;
            self.kinds.get(kind)?.event(revision)
        });
        let superseded = events.map(|event| Superseded {
            revision: event.revision,
            previous: event.previous.clone(),
            last: event.deleted.then(|| event.record.clone()),
        });
        superseded.collect()
    }

    /// Lets go of the versions in memory whose bytes have been moved.
    pub(crate) fn moved(&mut self, moved: Vec<Moved<F>>) {
        for moved in moved {
            let Some((kind, _)) = self.history.find(moved.revision) else {
                continue;
            };
            if let Some(kind) = self.kinds.get_mut(kind) {
                kind.replace(&moved);
            }
            self.history.moved(moved.revision);
        }
    }

    /// Past versions have to be in memory or nowhere from now on.
    pub(crate) fn give_up_overflow(&mut self, now: Instant) {
        self.history.give_up_overflow();
        self.forget(now);
    }

    /// Tells those whom an event concerns.
    fn announce(&self, key: &Key, revision: u64, woken: &mut Vec<Arc<Waiter>>) {
        let kind = self.kinds.get(&key.kind).into_iter();
        for waiter in kind
            .flat_map(|kind| kind.waiters.values())
            .chain(self.waiters.values())
        {
            if waiter.concerns(key) && waiter.announce(revision) {
                woken.push(waiter.clone());
            }
        }
    }

    /// Ends all watches; who is to be told goes to `woken`.
    pub(crate) fn end(&mut self, woken: &mut Vec<Arc<Waiter>>) {
        self.ended = true;
        let kinds = self.kinds.values();
        let waiters = kinds
            .flat_map(|kind| kind.waiters.values())
            .chain(self.waiters.values());
        woken.extend(waiters.cloned());
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Record<F>>> {
        self.kinds.get(&key.kind)?.records.get(key)
    }

    pub(crate) fn list(&self, range: &Range) -> Listing<F> {
        let kind = self.kinds.get(&range.kind);
        let records = kind
            .into_iter()
            .flat_map(|kind| kind.select(range, None))
            .cloned();
        Listing {
            revision: self.revision,
            records: records.collect(),
        }
    }

    pub(crate) fn list_everything(&self) -> Listing<F> {
        let records = self
            .kinds
            .values()
            .flat_map(|kind| kind.records.values().cloned());
        Listing {
            revision: self.revision,
            records: records.collect(),
        }
    }

    /// A page of the records as they were at a revision.
    pub(crate) fn page(
        &self,
        range: &Range,
        after: Option<&Key>,
        limit: usize,
        at: u64,
    ) -> Result<Page<F>, RevisionError> {
        let mut page = Page {
            revision: at,
            records: Vec::new(),
            more: false,
            remaining: 0,
        };
        self.check_revision(range, at)?;
        let Some(kind) = self.kinds.get(&range.kind) else {
            return Ok(page);
        };

        let changed = kind.changed_since(at, range, after);
        let unchanged = kind
            .select(range, after)
            .filter(|record| !changed.contains_key(&record.key));
        let mut records = in_key_order(unchanged, changed.values().copied().flatten());
        page.records.extend(records.by_ref().take(limit).cloned());
        page.remaining = records.count();
        page.more = page.remaining > 0;
        Ok(page)
    }

    /// Registers a watcher of everything in the range after a revision.
    pub(crate) fn watch(&mut self, range: Range, after: u64) -> Result<Registered, RevisionError> {
        self.check_revision(&range, after)?;
        let next = self.kind(&range.kind).next_revision(&range, after);
        Ok(self.register(Scope::Range(range), next))
    }

    /// Registers a watcher of what is still to come.
    pub(crate) fn watch_from_now(&mut self, scope: Scope) -> Registered {
        self.register(scope, 0)
    }

    fn register(&mut self, scope: Scope, next: u64) -> Registered {
        self.watches_begun += 1;
        let id = self.watches_begun;
        let waiter = Arc::new(Waiter::new(&scope, next));
        self.waiters_of(&scope).insert(id, waiter.clone());
        Registered { scope, id, waiter }
    }

    pub(crate) fn unwatch(&mut self, registered: &Registered) {
        self.waiters_of(&registered.scope).remove(&registered.id);
    }

    fn waiters_of(&mut self, scope: &Scope) -> &mut HashMap<u64, Arc<Waiter>> {
        match scope {
            Scope::Range(range) => &mut self.kind(&range.kind).waiters,
            Scope::Everything => &mut self.waiters,
        }
    }

    /// The event at a revision that was announced to a watcher, and what comes after it; ahead of
    /// the disk also among what is accepted.
    pub(crate) fn deliver(
        &self,
        scope: &Scope,
        announced: u64,
        ahead: Option<&Intake<F>>,
    ) -> Found<F> {
        let found = match (ahead, scope) {
            (Some(intake), Scope::Range(range)) => self.find_ahead(range, announced, intake),
            _ => self.find(scope, announced),
        };
        found.unwrap_or(Found::Lagged)
    }

    fn find_ahead(&self, range: &Range, announced: u64, intake: &Intake<F>) -> Option<Found<F>> {
        let kind = self.kinds.get(&range.kind);
        let on_disk = kind.and_then(|kind| kind.event(announced));
        let event = on_disk.or_else(|| {
            let coming = intake.coming(range, announced - 1)?;
            (coming.revision == announced).then_some(coming)
        })?;
        let next = self.next_ahead(range, announced, intake);
        Some(Found::Event(event.clone(), next))
    }

    /// The revision of the first event in a range after a revision, on disk or only accepted; 0 if
    /// there is none.
    fn next_ahead(&self, range: &Range, after: u64, intake: &Intake<F>) -> u64 {
        let kind = self.kinds.get(&range.kind);
        match kind.map_or(0, |kind| kind.next_revision(range, after)) {
            0 => {
                let after = after.max(self.revision);
                intake
                    .coming(range, after)
                    .map_or(0, |event| event.revision)
            }
            on_disk => on_disk,
        }
    }

    /// Registers a watcher ahead of the disk, of everything in the range after a revision.
    pub(crate) fn register_ahead(
        &self,
        range: Range,
        after: u64,
        intake: &mut Intake<F>,
    ) -> Registered {
        let next = self.next_ahead(&range, after, intake);
        let scope = Scope::Range(range.clone());
        let waiter = Arc::new(Waiter::new(&scope, next));
        let id = intake.watch(range, waiter.clone());
        Registered { scope, id, waiter }
    }

    fn find(&self, scope: &Scope, announced: u64) -> Option<Found<F>> {
        let (kind, next) = match scope {
            Scope::Range(range) => {
                let kind = self.kinds.get(&range.kind)?;
                (kind, kind.next_revision(range, announced))
            }
            Scope::Everything => {
                let (kind, next) = self.history.find(announced)?;
                (self.kinds.get(kind)?, next)
            }
        };
        let event = kind.event(announced)?;
        Some(Found::Event(event.clone(), next))
    }

    pub(crate) fn check_revision(&self, range: &Range, asked: u64) -> Result<(), RevisionError> {
        let horizon = self
            .kinds
            .get(&range.kind)
            .map_or(self.opened, |kind| kind.horizon);
        if asked > self.revision {
            return Err(RevisionError::Future {
                asked,
                newest: self.revision,
            });
        }
        if asked < horizon {
            return Err(RevisionError::Expired { asked, horizon });
        }
        Ok(())
    }

    /// How many records of each kind there are.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize)> {
        let kinds = self.kinds.iter();
        kinds
            .map(|(name, kind)| (name.clone(), kind.records.len()))
            .collect()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn watchers(&self) -> usize {
        let of_kinds: usize = self.kinds.values().map(|kind| kind.waiters.len()).sum();
        of_kinds + self.waiters.len()
    }

    pub(crate) fn history(&self) -> &History {
        &self.history
    }
}

impl<F> Kind<F> {
    fn forget_oldest(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.horizon = event.revision;
        }
    }

    fn event(&self, revision: u64) -> Option<&Event<F>> {
        let event = self.events.get(self.position(revision - 1))?;
        (event.revision == revision).then_some(event)
    }

    fn event_mut(&mut self, revision: u64) -> Option<&mut Event<F>> {
        let index = self.position(revision - 1);
        let event = self.events.get_mut(index)?;
        (event.revision == revision).then_some(event)
    }

    /// Puts moved versions in the place of those in memory: where they became things of the
    /// past, and where they came to be.
    fn replace(&mut self, moved: &Moved<F>) {
        if let Some(previous) = &moved.previous
            && let Some(event) = self.event_mut(previous.revision)
        {
            event.record = previous.clone();
        }
        if let Some(event) = self.event_mut(moved.revision) {
            event.previous.clone_from(&moved.previous);
            if let Some(last) = &moved.last {
                event.record = last.clone();
            }
        }
    }

    /// Where the events after a revision begin.
    fn position(&self, after: u64) -> usize {
        self.events.partition_point(|event| event.revision <= after)
    }

    /// The revision of the first event in a range after a revision; 0 if there is none.
    fn next_revision(&self, range: &Range, after: u64) -> u64 {
        let mut later = self.events.range(self.position(after)..);
        later
            .find(|event| range.contains(&event.record.key))
            .map_or(0, |event| event.revision)
    }

    /// The records of a range after a key, as they are now.
    fn select<'a>(
        &'a self,
        range: &'a Range,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'a Arc<Record<F>>> {
        let first = range.first();
        let start = match after {
            Some(after) if *after >= first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        let records = self
            .records
            .range((start, Bound::Unbounded))
            .map(|(_, record)| record);
        records.take_while(|record| range.contains(&record.key))
    }

    /// The records of a range after a key that have changed since a revision, as they were then.
    fn changed_since<'a>(
        &'a self,
        at: u64,
        range: &Range,
        after: Option<&Key>,
    ) -> BTreeMap<&'a Key, Option<&'a Arc<Record<F>>>> {
        let mut then = BTreeMap::new();
        for event in self.events.range(self.position(at)..) {
            let key = &event.record.key;
            if range.contains(key) && after.is_none_or(|after| key > after) {
                // Only a record's first change since then knows what it was.
                then.entry(key).or_insert(event.previous.as_ref());
            }
        }
        then
    }
}
