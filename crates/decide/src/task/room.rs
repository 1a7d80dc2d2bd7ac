//! How the room in a status is shared among outputs.

/// Shares `room` among outputs of these sizes: whoever wants little gets all of it, and the others
/// get equally much.
pub fn share(wanted: &[usize], room: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|index| wanted[*index]);
    let mut shares = vec![0; wanted.len()];
    let mut left = room;
    for (served, index) in order.into_iter().enumerate() {
        let fair = left / (wanted.len() - served);
        shares[index] = wanted[index].min(fair);
        left -= shares[index];
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_small_is_kept_whole_and_the_large_share_the_rest() {
        assert_eq!(share(&[10, 900, 20, 900], 430), [10, 200, 20, 200]);
        assert_eq!(share(&[10, 20], 1_000), [10, 20]);
        assert!(share(&[], 5).is_empty());
    }

    proptest! {
        #[test]
        fn shares_fit_and_nobody_is_cut_for_one_who_has_more(
            wanted in prop::collection::vec(0usize..5_000, 0..40), room in 0usize..50_000,
        ) {
            let shares = share(&wanted, room);
            prop_assert!(shares.iter().sum::<usize>() <= room);
            let most = shares.iter().max().copied().unwrap_or(0);
            let mut cut = 0;
            for (share, wanted) in shares.iter().zip(&wanted) {
                prop_assert!(share <= wanted);
                if share < wanted {
                    cut += 1;
                    // Rounding aside, one who is cut has as much as anybody.
                    prop_assert!(share + shares.len() >= most);
                }
            }
            // Nothing is left lying about while somebody is cut.
            prop_assert!(cut == 0 || shares.iter().sum::<usize>() + shares.len() > room);
        }
    }
}
