//! **A stale generation is ignored.** In the life of a daemon the assignments that its board takes
//! over never get older, however late and in whatever order they arrive.

use std::collections::BTreeMap;

use bramble_cluster::Generation;

use super::{Verdict, broken};
use crate::simulation::board::Place;

const NAME: &str = "stale_generation_ignored";

/// The newest generation that each life of a daemon has taken over.
#[derive(Debug, Default)]
pub(super) struct Generations(BTreeMap<Place, ((u64, u64), Generation)>);

impl Generations {
    pub(super) fn check(
        &mut self,
        place: Place,
        life: (u64, u64),
        generation: Generation,
    ) -> Verdict {
        let newest = self.0.entry(place).or_insert((life, generation));
        if newest.0 == life && newest.1 > generation {
            let text = format!("board {place} took over {generation:?} after {:?}", newest.1);
            return broken(NAME, text);
        }
        *newest = (life, generation);
        Ok(())
    }
}
