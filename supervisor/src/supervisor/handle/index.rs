//! The embedder as the index of code asks it.

use engine_api::embedding::{Input, Purpose};

use super::{Access, Handle};
use crate::index::Maker;
use crate::index::embedder::{Embedder, Making, NotMade};
use crate::request::NoVectors;

impl Embedder for Handle {
    fn maker(&self) -> Option<Maker> {
        self.embedding.maker.borrow().clone()
    }

    fn has_other_work(&self) -> bool {
        let answers = {
            let snapshot = self.snapshots.borrow();
            snapshot.queue.running + snapshot.queue.waiting
        };
        answers > 0 || self.embedding.free.available_permits() < self.embedding.capacity
    }

    fn of_question(&self, text: String) -> Making<'_> {
        Box::pin(async move {
            // Somebody waits for it like for any vector.
            let _seat = self.seat().map_err(|refusal| NotMade::Later(refusal.to_string()))?;
            self.one(text, Purpose::Query).await
        })
    }

    fn of_text(&self, text: String) -> Making<'_> {
        Box::pin(async move {
            if matches!(&*self.access.borrow(), Access::Draining) {
                return Err(NotMade::Later("the server ends".to_owned()));
            }
            self.one(text, Purpose::Document).await
        })
    }
}

impl Handle {
    async fn one(&self, text: String, purpose: Purpose) -> Result<([u8; 32], Vec<f32>), NotMade> {
        let identity = || self.maker().map(|maker| maker.identity);
        let before = identity();
        let made = self.embed_part(&[Input::Text(text)], purpose, true).await;
        let mut vectors = made.map_err(|no_vectors| match no_vectors {
            NoVectors::Input { problem, .. } => NotMade::Text(problem.to_string()),
            NoVectors::Failed(reason) => NotMade::Failed(reason),
            NoVectors::Refused(refusal) => NotMade::Later(refusal.to_string()),
        })?;
        // Whoever made it is known only if it was the same one all the time.
        match (vectors.pop(), before) {
            (Some(vector), Some(before)) if identity() == Some(before) => {
                Ok((before, vector.values))
            }
            _ => Err(NotMade::Later("the embedder was replaced".to_owned())),
        }
    }
}
