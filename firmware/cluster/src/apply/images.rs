//! Commands about images.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{Applied, ClusterState, Digest, Image, NodeId, Outcome, Rejection, limits, validate};

impl ClusterState {
    pub(super) fn report_images(&mut self, node: NodeId, images: &[Image]) -> Outcome {
        if !self.nodes.contains_key(&node) {
            return Err(self.no_node(node));
        }
        if images.len() > limits::IMAGES {
            return Err(Rejection::over("images", limits::IMAGES));
        }
        let reported: BTreeMap<Digest, &Image> =
            images.iter().map(|image| (image.digest, image)).collect();
        let new = reported.keys().filter(|digest| !self.images.contains_key(digest)).count();
        if self.images.len() + new > limits::IMAGES {
            return Err(Rejection::over("images", limits::IMAGES));
        }
        for image in reported.values() {
            validate::image(image)?;
        }
        let mut is_changed = self.drop_unreported(node, &reported);
        for (digest, image) in reported {
            let old = self.images.get(&digest);
            let new = merged(old.map(Arc::as_ref), image, node);
            if old.is_none_or(|old| **old != new) {
                self.images.insert(digest, Arc::new(new));
                is_changed = true;
            }
        }
        Ok(if is_changed { Applied::Done } else { Applied::Unchanged })
    }

    /// Forgets that a node held anything.
    pub(super) fn drop_holder(&mut self, node: NodeId) {
        self.drop_unreported(node, &BTreeMap::new());
    }

    fn drop_unreported(&mut self, node: NodeId, reported: &BTreeMap<Digest, &Image>) -> bool {
        let gone: Vec<Digest> = self
            .images
            .values()
            .filter(|image| image.holders.contains(&node) && !reported.contains_key(&image.digest))
            .map(|image| image.digest)
            .collect();
        for digest in &gone {
            if let Some(image) = self.images.get_mut(digest) {
                Arc::make_mut(image).holders.remove(&node);
                if image.holders.is_empty() {
                    self.images.remove(digest);
                }
            }
        }
        !gone.is_empty()
    }
}

/// What is known of an image after `node` reported it. Several holders may know it by different
/// names; the names of a sole holder are all there are.
fn merged(old: Option<&Image>, reported: &Image, node: NodeId) -> Image {
    let mut image = Image { holders: BTreeSet::from([node]), ..reported.clone() };
    if let Some(old) = old {
        image.named_at = image.named_at.max(old.named_at);
        image.holders.extend(&old.holders);
        if image.holders.len() > 1 {
            image.names.extend(old.names.iter().cloned());
            while image.names.len() > limits::IMAGE_NAMES {
                image.names.pop_last();
            }
        }
    }
    image
}

#[cfg(test)]
mod tests;
