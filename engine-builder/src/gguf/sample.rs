//! Writes small GGUF files for tests.

/// A header under construction. Its tensors are F32 and all zero.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pairs: Vec<Vec<u8>>,
    tensors: Vec<(String, Vec<u64>)>,
}

impl Sample {
    /// What a small transformer of this architecture would say.
    pub(crate) fn of(architecture: &str) -> Self {
        let key = |name: &str| format!("{architecture}.{name}");
        Self { pairs: Vec::new(), tensors: Vec::new() }
            .text("general.architecture", architecture)
            .text("general.name", "Sample Model")
            .number("general.file_type", 3)
            .number(&key("context_length"), 2048)
            .number(&key("block_count"), 2)
            .number(&key("embedding_length"), 64)
            .number(&key("attention.head_count"), 4)
            .number(&key("attention.head_count_kv"), 2)
            .tensor("token_embd.weight", &[64, 10])
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        let mut value = 8u32.to_le_bytes().to_vec();
        value.extend(string(text));
        self.pair(key, &value)
    }

    pub(crate) fn number(self, key: &str, number: u32) -> Self {
        self.pair(key, &[4u32.to_le_bytes(), number.to_le_bytes()].concat())
    }

    /// A later pair of the same key counts.
    pub(crate) fn pair(mut self, key: &str, value: &[u8]) -> Self {
        self.pairs.push([string(key), value.to_vec()].concat());
        self
    }

    pub(crate) fn tensor(mut self, name: &str, extents: &[u64]) -> Self {
        self.tensors.push((name.to_owned(), extents.to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF\x03\0\0\0".to_vec();
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.pairs.len() as u64).to_le_bytes());
        file.extend(self.pairs.concat());
        let mut offset = 0u64;
        for (name, extents) in &self.tensors {
            file.extend(string(name));
            file.extend(u32::try_from(extents.len()).unwrap().to_le_bytes());
            file.extend(extents.iter().flat_map(|extent| extent.to_le_bytes()));
            file.extend(0u32.to_le_bytes());
            file.extend(offset.to_le_bytes());
            offset += (extents.iter().product::<u64>() * 4).next_multiple_of(32);
        }
        let length = file.len().next_multiple_of(32) + usize::try_from(offset).unwrap();
        file.resize(length, 0);
        file
    }
}

/// A text as GGUF writes it: its length, then its bytes.
pub(crate) fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}
