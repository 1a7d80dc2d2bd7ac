//! Which layers containers lie on. Each container's folder holds a note of its image, so that
//! this is known whatever has become of the node, the image's name or the pod's object.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::images::Image;
use crate::images::reference::Digest;
use crate::sandbox::Record as Sandbox;

const NOTE: &str = "image.json";

/// Writes down what a container (or an image shown as a volume, in its own folder) lies on.
pub(crate) fn note(folder: &Path, image: &Image) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(NOTE), serde_json::to_vec(image)?)
}

/// Reads what was noted.
pub(crate) fn noted(folder: &Path) -> Option<Image> {
    serde_json::from_slice(&fs::read(folder.join(NOTE)).ok()?).ok()
}

/// Which pods use which layers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uses {
    pub(crate) layers: BTreeSet<Digest>,
    users: Vec<(String, BTreeSet<Digest>)>,
}

impl Uses {
    /// Reads the notes in all sandboxes.
    pub(crate) fn read(sandboxes: &Path) -> Uses {
        let mut uses = Uses::default();
        for sandbox in fs::read_dir(sandboxes).into_iter().flatten().flatten() {
            let owner = Sandbox::read(&sandbox.path())
                .ok()
                .and_then(|record| record.owner);
            let owner = owner.map_or_else(
                || "a pod that has gone".to_owned(),
                |owner| format!("{}/{}", owner.namespace, owner.name),
            );
            for folder in fs::read_dir(sandbox.path()).into_iter().flatten().flatten() {
                if let Some(image) = noted(&folder.path()) {
                    let layers: BTreeSet<Digest> = image
                        .trees
                        .iter()
                        .flat_map(|tree| &tree.layers)
                        .filter_map(|path| digest_of(path))
                        .collect();
                    uses.layers.extend(layers.iter().cloned());
                    uses.users.push((owner.clone(), layers));
                }
            }
        }
        uses
    }

    /// The pods that lie on an image of these layers.
    pub(super) fn of(&self, image: &BTreeSet<&Digest>) -> Vec<String> {
        let mut users: Vec<String> = self
            .users
            .iter()
            .filter(|(_, layers)| {
                !image.is_empty()
                    && layers.len() == image.len()
                    && image.iter().all(|layer| layers.contains(*layer))
            })
            .map(|(owner, _)| owner.clone())
            .collect();
        users.sort();
        users.dedup();
        users
    }
}

/// The layer whose files are in this folder, `…/layers/<digest>/tree`.
pub(super) fn digest_of(tree: &Path) -> Option<Digest> {
    let above = tree.parent()?;
    let is_layer = tree.ends_with("tree") && above.parent()?.ends_with("layers");
    is_layer.then(|| {
        format!("sha256:{}", above.file_name()?.to_string_lossy())
            .parse()
            .ok()
    })?
}
