//! What Services get from the cluster: an address of its own for each, and ports on the
//! nodes for those that want them.
//!
//! Nobody is told twice: what a Service holds is read from the store, and what is given out
//! is promised until the write that carries it has happened or failed.

mod assign;
mod ledger;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandlot_objects::schema;
use serde_json::Value;

use crate::lookup::{Changes, Follow, Lookup};
use crate::object;
use ledger::{Claims, Holder, Ledger};

/// Gives addresses and ports to Services.
pub(crate) struct Services {
    books: Mutex<Books>,
}

struct Books {
    follow: Box<dyn Follow>,
    /// What stored Services hold.
    held: Ledger,
    /// What was given to Services that are being written.
    promised: HashMap<u64, (Holder, Claims)>,
    promises_made: u64,
}

/// Keeps what a Service was given for it while it is being written.
pub(crate) struct Promise {
    services: Arc<Services>,
    number: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.services.books().promised.remove(&self.number);
    }
}

impl Services {
    /// Reads there what Services hold.
    pub(crate) fn new(lookup: &dyn Lookup) -> Services {
        Services {
            books: Mutex::new(Books {
                follow: lookup.follow("services"),
                held: Ledger::default(),
                promised: HashMap::new(),
                promises_made: 0,
            }),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Every change of the books is a single step, so a panic leaves them in order.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills in what a Service that is about to be written is to get. The promise is to be
    /// kept until it is stored.
    pub(crate) fn assign(
        self: &Arc<Self>,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Promise, Vec<schema::Cause>> {
        let holder = Holder::of(object::namespace(service), object::name(service));
        let mut books = self.books();
        books.catch_up();
        let taken = books.taken_by_others(&holder);
        assign::carry_over(service, old);
        let claims = assign::assign(service, old, &taken, rand::random())?;
        books.promises_made += 1;
        let number = books.promises_made;
        books.promised.insert(number, (holder, claims));
        Ok(Promise {
            services: Arc::clone(self),
            number,
        })
    }
}

impl Books {
    /// Takes in what was written since the last time.
    fn catch_up(&mut self) {
        let changes = match self.follow.changes() {
            Changes::Since(changes) => changes,
            Changes::All(all) => {
                self.held = Ledger::default();
                all
            }
        };
        for change in changes {
            let holder = Holder::of(&change.namespace, &change.name);
            let service = change
                .object
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            let claims = service.map(|service| Claims::of(&service));
            self.held.note(holder, claims.unwrap_or_default());
        }
    }

    fn taken_by_others<'a>(&'a self, holder: &'a Holder) -> ledger::Taken<'a> {
        let promised = self.promised.values();
        let others = promised.filter(|(whose, _)| whose != holder);
        self.held.taken(holder, others.map(|(_, claims)| claims))
    }
}
