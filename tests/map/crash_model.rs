//! What a map contains, as a model of the standard library, and the states in which a killed process may leave it.

use std::collections::BTreeMap;

use shoal::Map;

pub(crate) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

pub(crate) fn contents(map: &Map) -> Model {
    let all: Vec<_> = map.iter().collect::<Result<_, _>>().unwrap();
    let len = all.len();
    let model: Model = all.into_iter().collect();
    assert_eq!((model.len(), map.len().unwrap()), (len, len));
    model
}

/// The state after a call that sets a key.
pub(crate) fn with(model: &Model, key: &[u8], value: &[u8]) -> Vec<Model> {
    let mut model = model.clone();
    model.insert(key.to_vec(), value.to_vec());
    vec![model]
}

/// The state after a call that removes a key.
pub(crate) fn without(model: &Model, key: &[u8]) -> Vec<Model> {
    let mut model = model.clone();
    model.remove(key);
    vec![model]
}

/// The last of the allowed states that is the one found after a kill at `step`.
pub(crate) fn state_of(found: &Model, allowed: &[Model], step: u64) -> usize {
    let state = allowed.iter().rposition(|model| model == found);
    state.unwrap_or_else(|| panic!("step {step}: done by half"))
}
