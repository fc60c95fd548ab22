//! What a language model asks of a board: weights to read, numbers to multiply.

/// A language model as it is loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llm {
    pub name: &'static str,
    pub parameters: f64,
    /// What a decode step reads once, however many sequences share it.
    pub weight_bytes: f64,
    /// Keys and values of one token, 16 bits each.
    pub kv_bytes_per_token: f64,
}

impl Llm {
    /// Llama 3.2 1B, `Q4_K_M`: 16 layers of 8 heads of 64.
    pub const B1: Self =
        Self { name: "1b", parameters: 1.24e9, weight_bytes: 0.81e9, kv_bytes_per_token: 32_768.0 };
    /// Llama 3.2 3B, `Q4_K_M`: 28 layers of 8 heads of 128.
    pub const B3: Self = Self {
        name: "3b",
        parameters: 3.21e9,
        weight_bytes: 2.02e9,
        kv_bytes_per_token: 114_688.0,
    };
    /// Phi-3-mini, Q4: 32 layers of 32 heads of 96.
    pub const PHI3: Self = Self {
        name: "phi3",
        parameters: 3.82e9,
        weight_bytes: 2.3e9,
        kv_bytes_per_token: 393_216.0,
    };
    /// Qwen 2.5 7B, `Q4_K_M`: 28 layers of 4 heads of 128.
    pub const B7: Self =
        Self { name: "7b", parameters: 7.62e9, weight_bytes: 4.68e9, kv_bytes_per_token: 57_344.0 };
    /// Llama 3.1 8B, `Q4_K_M`: 32 layers of 8 heads of 128.
    pub const B8: Self = Self {
        name: "8b",
        parameters: 8.03e9,
        weight_bytes: 4.92e9,
        kv_bytes_per_token: 131_072.0,
    };
    /// Qwen 2.5 14B, `Q4_K_M`: 48 layers of 8 heads of 128.
    pub const B14: Self = Self {
        name: "14b",
        parameters: 14.8e9,
        weight_bytes: 8.99e9,
        kv_bytes_per_token: 196_608.0,
    };

    pub const ALL: [Self; 6] = [Self::B1, Self::B3, Self::PHI3, Self::B7, Self::B8, Self::B14];

    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        const { &Self::ALL }.iter().find(|llm| llm.name == name)
    }
}
