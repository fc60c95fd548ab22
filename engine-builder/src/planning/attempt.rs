//! One backend's try at a model: forms of its weights, sizes that fit, and
//! whether the outcome is worth it.

use jetpack::Bytes;

use super::backend::{self, Backend};
use super::budget::{Demand, Sizes, TooLarge, budget};
use super::estimate::{self, Speed};
use super::variant::{self, Variant};
use super::{BoardPlan, Class, Memory, Rejected, Release, Setting, Wishes, needs, steps};
use crate::catalogue::{Entry, Quantisation};

/// A swap file may be this many times as large as the memory; beyond that a
/// build would read and write for days.
const MOST_SWAP_TIMES: u64 = 2;

/// One backend's try.
pub(super) struct Attempt<'a> {
    entry: &'a Entry,
    setting: &'a Setting,
    backend: Backend,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(entry: &'a Entry, setting: &'a Setting, backend: Backend) -> Self {
        Self { entry, setting, backend }
    }

    /// The first form of the weights that fits, with those passed over before
    /// it; or, if none does, why.
    pub(super) fn plan(&self) -> Result<(BoardPlan, Vec<Rejected>), Vec<Rejected>> {
        let variants = self.variants().map_err(|why| vec![self.rejection(None, why, false)])?;
        let mut passed_over = Vec::new();
        for variant in variants {
            match self.plan_for(&variant) {
                Ok(plan) => return Ok((plan, passed_over)),
                Err(no) => passed_over.push(no),
            }
        }
        Err(passed_over)
    }

    fn release(&self) -> Option<&Release> {
        self.setting.release.as_ref()
    }

    fn asked_for(&self) -> bool {
        self.setting.wishes.backend.is_some()
    }

    fn rejection(&self, variant: Option<&Variant>, why: String, memory: bool) -> Rejected {
        Rejected {
            backend: self.backend,
            quantisation: variant.map(|variant| variant.label.clone()),
            why,
            for_want_of_memory: memory,
        }
    }

    /// The forms of weights to try, or what speaks against the backend.
    fn variants(&self) -> Result<Vec<Variant>, String> {
        let Self { entry, setting, backend } = self;
        let against = backend.against(entry, &setting.board, self.release(), self.asked_for());
        if let Some(why) = against {
            return Err(why);
        }
        let longest = backend.longest_context(entry);
        if let Some(context) = setting.wishes.context.filter(|context| *context > longest) {
            return Err(format!(
                "it computes this model right only within {longest} tokens, and --context is {context}"
            ));
        }
        if let Some(users) = setting.wishes.users.filter(|users| *users > self.most_users()) {
            return Err(format!(
                "nobody has published more than {} answers at once with it, and --users is {users}",
                self.most_users()
            ));
        }
        variant::variants(*backend, entry, &setting.board, setting.wishes.form)
    }

    fn most_users(&self) -> u16 {
        match self.backend {
            Backend::TensorrtEdgeLlm => backend::EDGE_MOST_USERS,
            Backend::TensorrtLlm | Backend::LlamaCpp => u16::MAX,
        }
    }

    fn demand(&self, variant: &Variant) -> Demand {
        let usual = self.entry.serving;
        Demand {
            weights: estimate::weights(self.entry, variant),
            working: estimate::working(self.backend, self.entry, &self.setting.board),
            kv_per_token: self.entry.weights.kv_bytes_per_token,
            unit: match self.backend {
                Backend::TensorrtLlm => steps::BLOCK,
                Backend::TensorrtEdgeLlm => 1,
                Backend::LlamaCpp => crate::plan::CELLS,
            },
            context: usual.context.min(self.backend.longest_context(self.entry)),
            users: usual.max_sequences.min(self.most_users()),
            spare: match self.backend {
                // Its cache is for the running batch alone.
                Backend::TensorrtEdgeLlm => 0,
                Backend::TensorrtLlm | Backend::LlamaCpp => usual.cached_sequences,
            },
        }
    }

    fn plan_for(&self, variant: &Variant) -> Result<BoardPlan, Rejected> {
        let Setting { board, wishes, .. } = self.setting;
        let reject = |why, memory| self.rejection(Some(variant), why, memory);
        let (demand, budget) = (self.demand(variant), budget(board.memory_bytes));
        let sizes = demand
            .fit(budget, wishes.context, wishes.users)
            .map_err(|large| reject(too_large(&large, &demand, budget, wishes), true))?;
        let build = estimate::build_memory(self.backend, self.entry, variant, self.release());
        if let Some(build) = build {
            let swap = build.saturating_sub(budget.get());
            if swap > board.memory_bytes.get().saturating_mul(MOST_SWAP_TIMES) {
                let why = format!("its build takes about {} of memory", Bytes::new(build));
                return Err(reject(why, true));
            }
        }
        let speed = estimate::speed(self.backend, self.entry, variant, board, self.release());
        self.worth_it(variant, speed).map_err(|why| reject(why, false))?;
        let memory = Memory {
            total_bytes: board.memory_bytes,
            budget_bytes: budget,
            weights_bytes: Bytes::new(demand.weights),
            kv_bytes: sizes.kv_bytes,
            working_bytes: Bytes::new(demand.working),
            build_bytes: build.map(Bytes::new),
        };
        Ok(self.written_out(variant, sizes, memory, speed))
    }

    /// Sixteen-bit weights are not worth it where llama.cpp is faster with four.
    fn worth_it(&self, variant: &Variant, speed: Option<Speed>) -> Result<(), String> {
        let sixteen_bits = variant.quantisation == Quantisation::F16;
        if !sixteen_bits || self.backend == Backend::LlamaCpp || self.asked_for() {
            return Ok(());
        }
        let other = Self { backend: Backend::LlamaCpp, ..*self };
        let Some(gguf) = other.variants().ok().and_then(|all| all.into_iter().next()) else {
            return Ok(());
        };
        let of_other =
            estimate::speed(other.backend, self.entry, &gguf, &self.setting.board, self.release());
        match (speed, of_other) {
            (Some(own), Some(other)) if own.most_tokens_per_s < other.least_tokens_per_s => {
                Err(format!(
                    "16-bit weights are all there is for it, with at most {:.0} tokens/s where \
                     llama-cpp with {} should reach {:.0}",
                    own.most_tokens_per_s, gguf.label, other.least_tokens_per_s
                ))
            }
            _ => Ok(()),
        }
    }

    fn written_out(
        &self,
        variant: &Variant,
        sizes: Sizes,
        memory: Memory,
        speed: Option<Speed>,
    ) -> BoardPlan {
        let Self { entry, setting, backend } = self;
        let release = self.release();
        let engine = backend.engine_of(&entry.id);
        let job = steps::Job {
            entry,
            engine: &engine,
            variant,
            sizes: &sizes,
            release,
            places: &setting.places,
            small_board: matches!(setting.board.class, Class::Orin8 | Class::Orin4),
        };
        let disk = estimate::disk(*backend, entry, variant, release);
        BoardPlan {
            model: entry.id.to_string(),
            name: entry.name.clone(),
            licence: entry.licence.clone(),
            board: setting.board.clone(),
            release: setting.release.clone(),
            backend: *backend,
            version: backend.version(release),
            quantisation: variant.label.clone(),
            sizes,
            memory,
            disk,
            dimension: entry.embedding.as_ref().map(|embedding| embedding.dimension),
            // What is estimated is the speed of answers.
            speed: speed.filter(|_| entry.embedding.is_none()),
            why: needs::why(*backend, entry, variant, setting, sizes),
            rejected: Vec::new(),
            cautions: needs::cautions(*backend, entry, variant, setting),
            needs: needs::needs(*backend, entry, variant, setting, &memory, disk),
            settings: needs::settings(*backend, sizes),
            steps: steps::steps(*backend, &job),
            engine,
        }
    }
}

/// What was too large, and what would not be.
fn too_large(large: &TooLarge, demand: &Demand, budget: Bytes, wishes: &Wishes) -> String {
    let users = wishes.users.unwrap_or(1);
    let windows = if users == 1 { "one window".to_owned() } else { format!("{users} windows") };
    let mut said = format!(
        "{} are needed ({} for weights and runtime, {windows} of {} tokens), {} more than the board \
         can give",
        large.needed,
        Bytes::new(demand.fixed()),
        large.context,
        large.needed.saturating_sub(budget)
    );
    if large.users > 0 {
        said.push_str(&format!("; --users {} would fit", large.users));
    } else if wishes.context.is_some() && demand.fit(budget, None, Some(1)).is_ok() {
        said.push_str("; a shorter --context would fit");
    }
    said
}
