//! Which language a file is in, and which parts of its syntax are worth a chunk
//! of their own.

use tree_sitter::Language as Syntax;

/// A language that is cut by its syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    JavaScript,
    TypeScript,
    Tsx,
    Go,
    C,
    Cpp,
    Java,
    CSharp,
    Bash,
    Ruby,
    Json,
    Toml,
    Yaml,
    Markdown,
}

/// What a node of the syntax means for cutting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Belongs together and is not looked into for names.
    Function,
    /// Belongs together while it is small; else its members stand alone.
    Type,
    /// Holds definitions, and its name says where they are.
    Scope,
    /// A part of a document or of settings, which may hold smaller ones.
    Section,
    /// Holds definitions, and has no name of its own.
    Wrapper,
}

use Language::*;

impl Language {
    pub const ALL: [Self; 16] = [
        Rust, Python, JavaScript, TypeScript, Tsx, Go, C, Cpp, Java, CSharp, Bash, Ruby, Json,
        Toml, Yaml, Markdown,
    ];

    /// By a file's name, else by the program that its first line names.
    #[must_use]
    pub fn of(path: &str, text: &str) -> Option<Self> {
        let name = path.rsplit('/').next().unwrap_or(path);
        Self::of_name(name).or_else(|| Self::of_first_line(text.lines().next()?))
    }

    fn of_name(name: &str) -> Option<Self> {
        match name {
            "Rakefile" | "Gemfile" | "Vagrantfile" => return Some(Ruby),
            "Cargo.lock" | "poetry.lock" | "uv.lock" => return Some(Toml),
            ".bashrc" | ".profile" | ".bash_profile" | "PKGBUILD" => return Some(Bash),
            _ => {}
        }
        let (_, extension) = name.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "rs" => Rust,
            "py" | "pyi" | "pyw" => Python,
            "js" | "mjs" | "cjs" | "jsx" => JavaScript,
            "ts" | "mts" | "cts" => TypeScript,
            "tsx" => Tsx,
            "go" => Go,
            "c" => C,
            // Most headers can be read as C++, whichever of both they are.
            "h" | "cc" | "cpp" | "cxx" | "hh" | "hpp" | "hxx" | "cu" | "cuh" | "ipp" | "inl" => Cpp,
            "java" => Java,
            "cs" => CSharp,
            "sh" | "bash" | "bats" => Bash,
            "rb" | "rake" | "gemspec" => Ruby,
            "json" | "jsonc" | "ipynb" => Json,
            "toml" => Toml,
            "yaml" | "yml" => Yaml,
            "md" | "markdown" => Markdown,
            _ => return None,
        })
    }

    fn of_first_line(line: &str) -> Option<Self> {
        let command = line.strip_prefix("#!")?;
        let mut words = command.split_whitespace().filter_map(|word| word.rsplit('/').next());
        let program = words.find(|word| *word != "env" && !word.starts_with('-'))?;
        Some(match program.trim_end_matches(|char: char| char.is_ascii_digit() || char == '.') {
            "sh" | "bash" | "dash" => Bash,
            "python" | "pypy" => Python,
            "node" | "nodejs" => JavaScript,
            "ruby" => Ruby,
            _ => return None,
        })
    }

    /// The word for it in messages and in filters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rust => "rust",
            Python => "python",
            JavaScript => "javascript",
            TypeScript => "typescript",
            Tsx => "tsx",
            Go => "go",
            C => "c",
            Cpp => "cpp",
            Java => "java",
            CSharp => "csharp",
            Bash => "bash",
            Ruby => "ruby",
            Json => "json",
            Toml => "toml",
            Yaml => "yaml",
            Markdown => "markdown",
        }
    }

    #[must_use]
    pub fn syntax(self) -> Syntax {
        match self {
            Rust => tree_sitter_rust::LANGUAGE,
            Python => tree_sitter_python::LANGUAGE,
            JavaScript => tree_sitter_javascript::LANGUAGE,
            TypeScript => tree_sitter_typescript::LANGUAGE_TYPESCRIPT,
            Tsx => tree_sitter_typescript::LANGUAGE_TSX,
            Go => tree_sitter_go::LANGUAGE,
            C => tree_sitter_c::LANGUAGE,
            Cpp => tree_sitter_cpp::LANGUAGE,
            Java => tree_sitter_java::LANGUAGE,
            CSharp => tree_sitter_c_sharp::LANGUAGE,
            Bash => tree_sitter_bash::LANGUAGE,
            Ruby => tree_sitter_ruby::LANGUAGE,
            Json => tree_sitter_json::LANGUAGE,
            Toml => tree_sitter_toml_ng::LANGUAGE,
            Yaml => tree_sitter_yaml::LANGUAGE,
            Markdown => tree_sitter_md::LANGUAGE,
        }
        .into()
    }

    /// What a kind of node means in this language; `None` if it is no
    /// definition and holds none.
    #[must_use]
    pub fn role(self, kind: &str) -> Option<Role> {
        use Role::{Function, Scope, Section, Type, Wrapper};
        Some(match (self, kind) {
            // A broken file still has whole definitions in it.
            (_, "ERROR") => Wrapper,
            (Rust, "function_item" | "macro_definition") => Function,
            (Rust, "struct_item" | "enum_item" | "union_item" | "trait_item") => Type,
            (Rust, "impl_item") => Type,
            (Rust, "mod_item") => Scope,
            (Rust, "declaration_list") => Wrapper,
            (Python, "function_definition") => Function,
            (Python, "class_definition") => Type,
            (Python, "decorated_definition" | "block" | "if_statement" | "try_statement") => {
                Wrapper
            }
            (
                JavaScript | TypeScript | Tsx,
                "function_declaration" | "generator_function_declaration" | "method_definition",
            ) => Function,
            (JavaScript | TypeScript | Tsx, "lexical_declaration" | "variable_declaration") => {
                Wrapper
            }
            (JavaScript | TypeScript | Tsx, "export_statement" | "class_body") => Wrapper,
            (JavaScript | TypeScript | Tsx, "class_declaration") => Type,
            (TypeScript | Tsx, "abstract_class_declaration" | "interface_declaration") => Type,
            (TypeScript | Tsx, "enum_declaration" | "type_alias_declaration") => Type,
            (TypeScript | Tsx, "internal_module" | "module") => Scope,
            (TypeScript | Tsx, "ambient_declaration" | "statement_block") => Wrapper,
            (TypeScript | Tsx, "expression_statement") => Wrapper,
            (Go, "function_declaration" | "method_declaration") => Function,
            (Go, "type_declaration") => Type,
            (C | Cpp, "function_definition") => Function,
            (C | Cpp, "struct_specifier" | "union_specifier" | "enum_specifier") => Type,
            (C | Cpp, "type_definition" | "preproc_ifdef" | "preproc_if" | "preproc_else") => {
                Wrapper
            }
            (C | Cpp, "linkage_specification" | "declaration_list") => Wrapper,
            (C | Cpp, "preproc_function_def") => Function,
            (Cpp, "class_specifier") => Type,
            (Cpp, "namespace_definition") => Scope,
            (Cpp, "template_declaration" | "field_declaration_list") => Wrapper,
            (Java, "method_declaration" | "constructor_declaration") => Function,
            (Java, "class_declaration" | "interface_declaration" | "enum_declaration") => Type,
            (Java, "record_declaration" | "annotation_type_declaration") => Type,
            (Java, "class_body" | "interface_body" | "enum_body" | "enum_body_declarations") => {
                Wrapper
            }
            (CSharp, "method_declaration" | "constructor_declaration") => Function,
            (CSharp, "property_declaration" | "operator_declaration") => Function,
            (CSharp, "class_declaration" | "struct_declaration" | "interface_declaration") => Type,
            (CSharp, "record_declaration" | "enum_declaration") => Type,
            (CSharp, "namespace_declaration") => Scope,
            (CSharp, "declaration_list") => Wrapper,
            (Bash, "function_definition") => Function,
            (Ruby, "method" | "singleton_method") => Function,
            (Ruby, "class") => Type,
            (Ruby, "module") => Scope,
            (Ruby, "body_statement") => Wrapper,
            (Json, "document" | "object" | "array") => Wrapper,
            (Json, "pair") => Section,
            (Toml, "table" | "table_array_element") => Section,
            (Yaml, "document" | "block_node" | "block_mapping") => Wrapper,
            (Yaml, "block_mapping_pair") => Section,
            (Markdown, "section") => Section,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_name_or_its_first_line() {
        let of = |path, text| Language::of(path, text).map(Language::name);
        assert_eq!(of("a/b.rs", ""), Some("rust"));
        assert_eq!(of("X.PY", ""), Some("python"));
        assert_eq!(of("Gemfile", ""), Some("ruby"));
        assert_eq!(of("run", "#!/usr/bin/env -S python3 -I\n"), Some("python"));
        assert_eq!(of("run", "#!/bin/sh\n"), Some("bash"));
        assert_eq!(of("run.d/run", "#!/usr/bin/perl\n"), None);
        assert_eq!(of("LICENCE", "Permission"), None);
    }

    #[test]
    fn every_grammar_can_be_loaded_and_has_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for language in Language::ALL {
            let mut parser = tree_sitter::Parser::new();
            parser.set_language(&language.syntax()).unwrap();
            assert!(names.insert(language.name()));
        }
    }
}
