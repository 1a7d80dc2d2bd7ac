//! Finds the runs of an earlier supervisor's life: takes up those that go, and recalls those that
//! are over when somebody asks.

use std::{io, sync::Arc};

use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::{
    begin::{STREAMS, resume, silent},
    disk::{Contents, Files, files_of, look_through, remove},
    launch::{Key, Memory},
    log::Log,
    outcome::{End, Outcome},
    record::Record,
    run::{Run, View},
    sheet::{Name, Sheet, Standing},
    stock::{Pipes, is_stock},
    supervisor::{Place, Supervisor, blocking},
    tend::Tender,
    why,
};

impl Supervisor {
    /// Takes up what an earlier supervisor left; says which pipes the runs that go have.
    pub(crate) fn take_up_runs(&self, begun: &[Name]) -> io::Result<Vec<Pipes>> {
        let contents = look_through(&self.0.runs)?;
        for name in begun {
            let sheet = Sheet::named(&self.0.runs, *name);
            if sheet.record().is_none() && !sheet.is_lost() {
                sheet.mark_lost()?;
                self.known().sheets += usize::from(!contents.runs.contains_key(name));
            }
        }
        let mut taken = Vec::new();
        for (name, files) in &contents.runs {
            let sheet = Sheet::named(&self.0.runs, *name);
            match sheet.record() {
                None if sheet.is_lost() => self.known().sheets += 1,
                // Torn while it was being made, or the last of what was being removed.
                None => files.remove(&sheet)?,
                Some(record) => taken.extend(self.take_up(sheet, record, files)?),
            }
        }
        Ok(taken)
    }

    /// Takes up one run; says which pipes it has if it goes.
    fn take_up(&self, sheet: Sheet, record: Record, files: &Files) -> io::Result<Option<Pipes>> {
        self.known().sheets += 1;
        match sheet.standing(&record) {
            Standing::Over(_) if record.memory == Memory::Passing => {
                files.remove(&sheet)?;
                Ok(None)
            }
            Standing::Over(_) => Ok(None),
            _ => {
                let (key, memory, pipes) = (record.key.clone(), record.memory, record.pipes);
                self.0.stock.are_taken(pipes);
                if let Some(run) = self.revive(sheet, record, files)? {
                    if memory == Memory::Passing {
                        // Who listened to it is gone, and nobody else can ask for it.
                        run.kill();
                    }
                    self.known()
                        .runs
                        .insert(key, Arc::new(OnceCell::new_with(Some(run))));
                }
                Ok(Some(pipes))
            }
        }
    }

    /// Clears an earlier supervisor's stock away and begins one of its own.
    pub(crate) async fn take_stock(&self, taken: &[Pipes]) -> io::Result<()> {
        let Contents { others, .. } = look_through(&self.0.runs)?;
        for path in others {
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| is_stock(name, taken)) {
                remove(&path)?;
            }
        }
        let stock = self.0.stock.clone();
        blocking(move || stock.prepare()).await
    }

    pub(crate) fn on_disk(&self, key: &Key) -> io::Result<Option<Run>> {
        let sheet = Sheet::of(&self.0.runs, key);
        match sheet.record() {
            Some(record) if record.key == *key => {
                let files = files_of(&sheet)?;
                self.revive(sheet, record, &files)
            }
            None if sheet.is_lost() => {
                let record = Record::lost(key.clone())?;
                let outcome = why::outcome(&record, End::Lost, None, Timestamp::now());
                self.over(record, sheet, outcome, &Files::default())
                    .map(Some)
            }
            _ => Ok(None),
        }
    }

    fn over(
        &self,
        record: Record,
        sheet: Sheet,
        outcome: Outcome,
        files: &Files,
    ) -> io::Result<Run> {
        let view = View {
            process: None,
            outcome: Some(Arc::new(outcome)),
            swept: true,
        };
        let logs = self.logs(&record, &sheet, files)?;
        let shared = self.shared(record, sheet, logs, None, view);
        shared.logs.iter().for_each(|log| log.end());
        Ok(Run(shared))
    }

    /// The logs that an earlier supervisor left of a run.
    fn logs(&self, record: &Record, sheet: &Sheet, files: &Files) -> io::Result<[Arc<Log>; 2]> {
        let [out, err] = STREAMS.map(|stream| {
            let (starts, stock) = (files.segments(stream), self.0.stock.clone());
            Log::open(sheet.beside(stream), record.keep, starts, stock)
        });
        Ok([out?, err?])
    }

    /// What an earlier supervisor left of a run that is not over. `None` if it never began.
    fn revive(&self, sheet: Sheet, record: Record, files: &Files) -> io::Result<Option<Run>> {
        let outcome = match sheet.standing(&record) {
            Standing::NeverBegan => return Ok(None),
            Standing::Over(outcome) => outcome,
            standing @ (Standing::Alive | Standing::Left) => {
                let ends = match standing {
                    Standing::Alive => resume(&sheet, &record)?,
                    _ => silent(&record)?,
                };
                let logs = self.logs(&record, &sheet, files)?;
                let shared = self.shared(record, sheet, logs, None, View::default());
                let tender = Tender::new(shared.clone(), ends, self.0.settling.clone())?;
                self.tend(shared.clone(), tender, Place::more(self));
                return Ok(Some(Run(shared)));
            }
            Standing::Lost => {
                let outcome = why::outcome(&record, End::Lost, sheet.note(), Timestamp::now());
                sheet.finish(&outcome)?;
                outcome
            }
        };
        Ok(Some(self.over(record, sheet, outcome, files)?))
    }
}
