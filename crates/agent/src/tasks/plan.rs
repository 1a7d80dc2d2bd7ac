//! From the tasks that are wanted and those that are there to what is to be done. Pure.

use std::collections::BTreeSet;

/// A task that is there, as far as planning needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present<'a> {
    pub(crate) name: &'a str,
    /// Whether it is being stopped already.
    pub(crate) going: bool,
    /// Whether it is over.
    pub(crate) over: bool,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Places in the list of wanted tasks.
    pub(crate) start: Vec<usize>,
    /// Wanted, but there is one active task already.
    pub(crate) refuse: Vec<usize>,
    /// Names of tasks that are no longer wanted.
    pub(crate) stop: Vec<String>,
}

/// Makes what is there what is wanted: tasks are never changed, only started and stopped; a
/// name whose task is going is free again; one task is active at a time.
pub(crate) fn plan(wanted: &[&str], present: &[Present<'_>]) -> Plan {
    let stays: Vec<&Present<'_>> = present.iter().filter(|task| !task.going).collect();
    let stop: Vec<&str> = stays
        .iter()
        .map(|task| task.name)
        .filter(|name| !wanted.contains(name))
        .collect();
    let mut active = stays
        .iter()
        .filter(|task| !task.over && !stop.contains(&task.name))
        .count();
    let mut known: BTreeSet<&str> = stays.iter().map(|task| task.name).collect();
    let mut plan = Plan {
        stop: stop.iter().map(ToString::to_string).collect(),
        ..Plan::default()
    };
    for (index, name) in wanted.iter().enumerate() {
        if name.is_empty() || !known.insert(name) {
            continue;
        }
        if active == 0 {
            plan.start.push(index);
            active += 1;
        } else {
            plan.refuse.push(index);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(name: &str, going: bool, over: bool) -> Present<'_> {
        Present { name, going, over }
    }

    #[test]
    fn pushing_the_same_again_does_nothing() {
        assert_eq!(plan(&["a"], &[present("a", false, false)]), Plan::default());
        assert_eq!(plan(&["a"], &[present("a", false, true)]), Plan::default());
    }

    #[test]
    fn what_is_no_longer_wanted_is_stopped_once_and_its_name_is_free() {
        let stop = |names: &[&str]| Plan {
            stop: names.iter().map(ToString::to_string).collect(),
            ..Plan::default()
        };
        assert_eq!(
            plan(
                &[],
                &[present("a", false, false), present("b", false, true)]
            ),
            stop(&["a", "b"])
        );
        assert_eq!(plan(&[], &[present("a", true, false)]), Plan::default());
        assert_eq!(plan(&["a"], &[present("a", true, false)]).start, [0]);
    }

    #[test]
    fn one_task_is_active_at_a_time_and_a_replacement_may_begin_while_the_old_one_goes() {
        let both = plan(&["a", "b"], &[]);
        assert_eq!((both.start, both.refuse), (vec![0], vec![1]));
        let swapped = plan(&["b"], &[present("a", false, false)]);
        assert_eq!(
            (swapped.start, swapped.stop),
            (vec![0], vec!["a".to_owned()])
        );
        assert_eq!(
            plan(&["", "a", "a"], &[]).start,
            [1],
            "nameless and repeated ones are skipped"
        );
    }
}
