//! Past versions that are too much for memory, in files.
//!
//! They lie in files without a name, which the kernel removes however this process ends, and
//! are read through a mapping: whoever holds such a version cannot tell it from others, and
//! pages that nobody reads take no memory.

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use memmap2::Mmap;

use crate::{
    record::Record,
    state::{Moved, Superseded},
    store::Shared,
};

/// How large a file is, unless one version alone is larger.
const FILE: usize = 16 << 20;

/// Where versions go that only history holds.
pub(crate) struct Overflow {
    folder: PathBuf,
    current: Option<Sheet>,
}

/// A file that is being filled.
struct Sheet {
    file: File,
    /// All of it. Each version is a part of these bytes, and the last to go takes the file along.
    whole: Bytes,
    used: usize,
}

impl Overflow {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Overflow {
            folder,
            current: None,
        }
    }

    /// Moves what history holds too much of out of memory.
    pub(crate) fn relieve<F: Clone>(&mut self, shared: &Shared<F>) -> io::Result<()> {
        loop {
            let superseded = shared.state.read().superseded();
            if superseded.is_empty() {
                return Ok(());
            }
            let moved: Vec<_> = superseded
                .into_iter()
                .map(|superseded| self.take(superseded))
                .collect::<io::Result<_>>()?;
            shared.state.write().moved(moved);
        }
    }

    fn take<F: Clone>(&mut self, superseded: Superseded<F>) -> io::Result<Moved<F>> {
        let mut elsewhere = |record: Option<Arc<Record<F>>>| {
            let moved = record.map(|record| self.copy(&record).map(Arc::new));
            moved.transpose()
        };
        Ok(Moved {
            revision: superseded.revision,
            previous: elsewhere(superseded.previous)?,
            last: elsewhere(superseded.last)?,
        })
    }

    fn copy<F: Clone>(&mut self, record: &Record<F>) -> io::Result<Record<F>> {
        Ok(Record {
            key: record.key.clone(),
            revision: record.revision,
            value: self.keep(&record.value)?,
            facts: record.facts.clone(),
        })
    }

    /// The same bytes, in a file.
    fn keep(&mut self, value: &[u8]) -> io::Result<Bytes> {
        let sheet = match self.current.take() {
            Some(sheet) if sheet.whole.len() - sheet.used >= value.len() => sheet,
            _ => Sheet::new(&self.folder, value.len().max(FILE))?,
        };
        let sheet = self.current.insert(sheet);
        let from = sheet.used;
        sheet.file.write_all_at(value, from as u64)?;
        sheet.used += value.len();
        Ok(sheet.whole.slice(from..sheet.used))
    }
}

impl Sheet {
    fn new(folder: &PathBuf, size: usize) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        file.set_len(size as u64)?;
        // SAFETY: the file has no name, so that nobody else can open, change or shorten it; this
        // process never shortens it, and never writes where a slice has been handed out.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Sheet {
            file,
            whole: Bytes::from_owner(map),
            used: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_stays_as_it_was_while_more_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut overflow = Overflow::new(folder.path().to_owned());
        let small: Vec<_> = (0..100u8)
            .map(|byte| (byte, overflow.keep(&[byte; 1000]).unwrap()))
            .collect();
        let large = overflow.keep(&vec![7; FILE + 1]).unwrap();
        let none = overflow.keep(&[]).unwrap();
        drop(overflow);
        assert!(small.iter().all(|(byte, kept)| kept[..] == [*byte; 1000]));
        assert!(large.len() == FILE + 1 && large.iter().all(|byte| *byte == 7));
        assert!(none.is_empty());
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "the files have no names"
        );
    }
}
