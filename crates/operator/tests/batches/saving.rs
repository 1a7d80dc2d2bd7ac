//! Somebody who saves sandboxes, and pretends: it remembers what it was asked to save.

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use sandlot_operator::{Save, SaveError, SavedImage, Saver};

pub const REGISTRY: &str = "registry.example/s";

/// The pretended saver.
#[derive(Debug)]
pub struct PretendSaver {
    saved: Mutex<Vec<Save>>,
    forgotten: Mutex<Vec<String>>,
    refusal: Mutex<Option<String>>,
}

impl PretendSaver {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            saved: Mutex::default(),
            forgotten: Mutex::default(),
            refusal: Mutex::default(),
        })
    }

    /// Everything that was saved.
    pub fn saved(&self) -> Vec<Save> {
        self.saved.lock().unwrap().clone()
    }

    /// The images that nothing names any more.
    pub fn forgotten(&self) -> Vec<String> {
        self.forgotten.lock().unwrap().clone()
    }

    /// From now on nothing can be saved, for this reason.
    pub fn refuse(&self, why: Option<&str>) {
        *self.refusal.lock().unwrap() = why.map(str::to_owned);
    }
}

/// The pretended saver as the operator knows it.
#[derive(Clone, Debug)]
pub struct Saving(pub Arc<PretendSaver>);

impl Saver for Saving {
    fn registry(&self) -> &str {
        REGISTRY
    }

    fn save(&self, what: Save) -> BoxFuture<'static, Result<Vec<SavedImage>, SaveError>> {
        let saver = self.0.clone();
        Box::pin(async move {
            saver.saved.lock().unwrap().push(what.clone());
            if let Some(why) = saver.refusal.lock().unwrap().clone() {
                return Err(SaveError::Commit(why));
            }
            let images = what.containers.into_iter();
            Ok(images
                .map(|(container, image)| SavedImage {
                    container,
                    image,
                    digest: Some(format!("sha256:{}", "0".repeat(64))),
                })
                .collect())
        })
    }

    fn forget(&self, images: Vec<String>) -> BoxFuture<'static, ()> {
        self.0.forgotten.lock().unwrap().extend(images);
        Box::pin(async {})
    }

    fn pull_secret(&self) -> Option<&str> {
        Some("pull")
    }
}
