//! Which images are named by anything: those of saved sandboxes are kept for as long.

use std::collections::HashSet;

use sandlot_api::PodTemplate;

use super::Index;

impl Index {
    /// Every image that something here names: templates, and what was or is being saved.
    pub(crate) fn named_images(&self) -> HashSet<String> {
        let of_pools = self.pools.values().map(|pool| pool.spec.template.as_ref());
        let of_batches = self
            .batches
            .values()
            .map(|batch| batch.spec.template.as_ref());
        let templates = of_pools.chain(of_batches).flatten();
        let mut named: HashSet<String> = templates.flat_map(images_of).collect();
        for snapshot in self.snapshots.values() {
            let saved = snapshot.status.containers.iter();
            named.extend(saved.map(|saved| saved.image_uri.clone()));
        }
        named
    }
}

/// The images of a template's containers.
pub(super) fn images_of(template: &PodTemplate) -> Vec<String> {
    let containers = template.0.get("spec").map(|spec| &spec["containers"]);
    let containers = containers.and_then(|list| list.as_array());
    let images = containers.into_iter().flatten();
    images
        .filter_map(|container| Some(container["image"].as_str()?.to_owned()))
        .collect()
}
