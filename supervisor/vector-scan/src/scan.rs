//! Looks at every vector, on many threads, and keeps the best.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{self, AtomicUsize};
use std::thread;

use crate::dot;
use crate::row::Question;

/// Vectors that are worth a thread: a millisecond or two.
const WORTH: usize = 25_000;
/// Memory has given all it can before so many read it.
const MOST_HELPERS: usize = 15;

/// Vectors that stand together. Each has a name and a scale; those that are named 0
/// are holes.
#[derive(Debug, Clone, Default)]
pub struct Block {
    pub names: Vec<i64>,
    pub scales: Vec<f32>,
    /// The upper bytes, one vector after the other.
    pub coarse: Vec<i8>,
}

/// A vector that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    pub name: i64,
    /// The block and the place in it.
    pub block: usize,
    pub place: usize,
    /// About the cosine.
    pub about: f32,
}

impl Eq for Near {}

/// Worse ones are greater, so that a heap has the worst on top. Of equal ones, the
/// larger name is the worse, so that the answer does not depend on the threads.
impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        other.about.total_cmp(&self.about).then(self.name.cmp(&other.name))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One look at all vectors, by as many threads as take part in it. What is found does not
/// depend on how many those are.
pub struct Scan<'a> {
    blocks: Vec<&'a Block>,
    question: &'a Question,
    count: usize,
    may: &'a (dyn Fn(i64) -> bool + Sync),
    /// The first block that nobody has taken.
    next: AtomicUsize,
}

impl<'a> Scan<'a> {
    /// Looks for the `count` vectors that are nearest to the question among those that
    /// `may` be found. Blocks of another dimension have none.
    #[must_use]
    pub fn new(
        blocks: Vec<&'a Block>,
        question: &'a Question,
        count: usize,
        may: &'a (dyn Fn(i64) -> bool + Sync),
    ) -> Self {
        Self { blocks, question, count, may, next: AtomicUsize::new(0) }
    }

    /// How many threads are worth it beside one that may take part later.
    #[must_use]
    pub fn helpers(&self) -> usize {
        let all: usize = self.blocks.iter().map(|block| block.names.len()).sum();
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        (all / WORTH).clamp(1, (cores - 1).clamp(1, MOST_HELPERS))
    }

    /// Takes blocks until none is left; the best of those, in no order to count on.
    #[must_use]
    pub fn take_part(&self) -> Vec<Near> {
        let mut best = Best::new(self.count);
        loop {
            let at = self.next.fetch_add(1, atomic::Ordering::Relaxed);
            let Some(block) = self.blocks.get(at) else { break };
            best.look(block, at, self.question, self.may);
        }
        best.heap.into_vec()
    }

    /// What those who took part found together, the best first.
    #[must_use]
    pub fn best(&self, parts: impl IntoIterator<Item = Vec<Near>>) -> Vec<Near> {
        let mut found: Vec<Near> = parts.into_iter().flatten().collect();
        found.sort_unstable();
        found.truncate(self.count);
        found
    }
}

impl fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, count, next, .. } = self;
        write!(f, "the {count} nearest in {} blocks, from {next:?}", blocks.len())
    }
}

struct Best {
    count: usize,
    heap: BinaryHeap<Near>,
    /// What is not above it is not looked at any further.
    bar: f32,
}

impl Best {
    fn new(count: usize) -> Self {
        let bar = if count == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        Self { count, heap: BinaryHeap::with_capacity(count + 1), bar }
    }

    fn look(
        &mut self,
        block: &Block,
        at: usize,
        question: &Question,
        may: &(dyn Fn(i64) -> bool + Sync),
    ) {
        let dimension = question.dimension();
        if block.coarse.len() != block.names.len() * dimension {
            return;
        }
        let mut products = vec![0; block.names.len()];
        dot::products(&block.coarse, question.coarse(), &mut products);
        let rows = products.iter().zip(&block.scales).zip(&block.names);
        for (place, ((product, scale), name)) in rows.enumerate() {
            let about = question.about(*product, *scale);
            if about >= self.bar && *name != 0 && may(*name) {
                self.keep(Near { name: *name, block: at, place, about });
            }
        }
    }

    fn keep(&mut self, near: Near) {
        self.heap.push(near);
        if self.heap.len() > self.count {
            self.heap.pop();
        }
        if self.heap.len() == self.count {
            self.bar = self.heap.peek().map_or(self.bar, |worst| worst.about);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::row::Row;

    fn block(vectors: &[(i64, Vec<f32>)]) -> Block {
        let mut block = Block::default();
        for (name, values) in vectors {
            let row = Row::new(values).unwrap();
            block.names.push(*name);
            block.scales.push(row.scale);
            block.coarse.extend(row.coarse);
        }
        block
    }

    fn names(found: &[Near]) -> Vec<i64> {
        found.iter().map(|near| near.name).collect()
    }

    fn nearest(
        blocks: &[&Block],
        question: &Question,
        count: usize,
        may: &(dyn Fn(i64) -> bool + Sync),
    ) -> Vec<Near> {
        let scan = Scan::new(blocks.to_vec(), question, count, may);
        thread::scope(|scope| {
            let parts: Vec<_> = (0..3).map(|_| scope.spawn(|| scan.take_part())).collect();
            scan.best(parts.into_iter().map(|part| part.join().unwrap()))
        })
    }

    #[test]
    fn the_nearest_come_first_holes_and_what_may_not_be_seen_never() {
        let vectors =
            [(1, vec![1.0, 0.0]), (0, vec![1.0, 1.0]), (3, vec![1.0, 0.5]), (4, vec![-1.0, 0.0])];
        let (one, two) = (block(&vectors[..2]), block(&vectors[2..]));
        let question = Question::new(&[1.0, 0.6]).unwrap();
        let find = |count, may: &(dyn Fn(i64) -> bool + Sync)| {
            names(&nearest(&[&one, &two], &question, count, may))
        };
        assert_eq!(find(9, &|_| true), [3, 1, 4]);
        assert_eq!(find(2, &|_| true), [3, 1]);
        assert_eq!(find(2, &|name| name != 3), [1, 4]);
        assert_eq!(find(0, &|_| true), [0; 0]);
        assert_eq!(nearest(&[], &question, 9, &|_| true), []);
        let other = Question::new(&[1.0, 0.6, 0.0]).unwrap();
        assert_eq!(nearest(&[&one], &other, 9, &|_| true), []);
    }

    #[test]
    fn a_place_is_where_it_stands() {
        let blocks =
            [block(&[(7, vec![0.0, 1.0])]), block(&[(8, vec![0.1, 1.0]), (9, vec![1.0, 0.0])])];
        let blocks: Vec<_> = blocks.iter().collect();
        let found = nearest(&blocks, &Question::new(&[1.0, 0.0]).unwrap(), 1, &|_| true);
        assert_eq!((found[0].block, found[0].place, found[0].name), (1, 1, 9));
    }

    proptest! {
        #[test]
        fn the_best_are_those_of_a_sort(
            vectors in prop::collection::vec(prop::collection::vec(-1.0f32..1.0, 5), 1..60),
            asked in prop::collection::vec(0.1f32..1.0, 5),
            count in 1usize..12,
            size in 1usize..20,
        ) {
            let named: Vec<_> = (1..).zip(vectors).filter(|(_, values)| Row::new(values).is_some()).collect();
            let blocks: Vec<_> = named.chunks(size).map(block).collect();
            let blocks: Vec<_> = blocks.iter().collect();
            let question = Question::new(&asked).unwrap();
            let mut all = nearest(&blocks, &question, named.len(), &|_| true);
            prop_assert_eq!(all.len(), named.len());
            prop_assert!(all.is_sorted());
            all.truncate(count);
            prop_assert_eq!(nearest(&blocks, &question, count, &|_| true), all);
        }
    }
}
