//! The embedders as the index of code asks them.

use engine_api::embedding::{Input, Purpose};

use super::embed::Way;
use super::{Access, Handle};
use crate::index::Maker;
use crate::index::embedder::{Embedder, Making, NotMade};
use crate::request::NoVectors;
use crate::supervisor::Input as LoopInput;

impl Embedder for Handle {
    fn maker(&self) -> Result<Maker, String> {
        let Way { maker, access, .. } = &self.embedding.chosen;
        maker.borrow().clone().ok_or_else(|| match &*access.borrow() {
            Access::Never { reason } => reason.clone(),
            _ => "no embedder is installed".to_owned(),
        })
    }

    fn searched_are(&self, by: Option<&Maker>) {
        // A loop that has no room for it is told again soon.
        let _ = self.inputs.try_send(LoopInput::SearchedAre { by: by.cloned() });
    }

    fn has_other_work(&self) -> bool {
        let answers = {
            let snapshot = self.snapshots.borrow();
            snapshot.queue.running + snapshot.queue.waiting
        };
        answers > 0 || self.embedding.free.available_permits() < self.embedding.capacity
    }

    fn of_question(&self, text: String, by: Maker) -> Making<'_> {
        Box::pin(async move {
            // Somebody waits for it like for any vector.
            let _seat = self.seat().map_err(|refusal| NotMade::Later(refusal.to_string()))?;
            let ways = [&self.embedding.chosen, &self.embedding.former];
            let way = ways.into_iter().find(|way| way.is(&by));
            let gone = || {
                let model = &by.model;
                NotMade::Later(format!(
                    "the vectors are by an engine \"{model}\" that is not there any more"
                ))
            };
            self.one(way.ok_or_else(gone)?, text, Purpose::Query, &by).await
        })
    }

    fn of_text(&self, text: String, by: Maker) -> Making<'_> {
        Box::pin(async move {
            if matches!(&*self.access.borrow(), Access::Draining) {
                return Err(NotMade::Later("the server ends".to_owned()));
            }
            self.one(&self.embedding.chosen, text, Purpose::Document, &by).await
        })
    }
}

impl Handle {
    async fn one(
        &self,
        way: &Way,
        text: String,
        purpose: Purpose,
        by: &Maker,
    ) -> Result<Vec<f32>, NotMade> {
        if !way.is(by) {
            return Err(NotMade::Replaced);
        }
        let made = self.embed_part(way, &[Input::Text(text)], purpose, true).await;
        let mut vectors = made.map_err(|no_vectors| match no_vectors {
            NoVectors::Input { problem, .. } => NotMade::Text(problem.to_string()),
            NoVectors::Failed(reason) => NotMade::Failed(reason),
            NoVectors::Refused(refusal) => NotMade::Later(refusal.to_string()),
        })?;
        // Whoever made it is known only if it was the same one all the time.
        match vectors.pop() {
            Some(vector) if way.is(by) => Ok(vector.values),
            _ => Err(NotMade::Replaced),
        }
    }
}
