//! Promises about device masks: how they are read, composed, refused and written.

mod discovery;

use proptest::prelude::*;
use shoal::Error;
use shoal::device::{Device, EnvEdit, Mask, environment, families, family, resolve};

fn cuda(value: &str) -> String {
    Mask::from_cuda(Some(value)).to_string()
}

fn why(family: &str, inherited: Option<&str>, logical: &str) -> String {
    match resolve(family, inherited, logical) {
        Err(err @ Error::Invalid { .. }) => err.to_string(),
        other => panic!("{family} {inherited:?} {logical:?}: {other:?}"),
    }
}

fn env<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| {
        let found = variables.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    }
}

fn set(variable: &str, value: &str) -> EnvEdit {
    EnvEdit::Set(variable.into(), value.into())
}

fn unset(variable: &str) -> EnvEdit {
    EnvEdit::Unset(variable.into())
}

#[test]
fn cuda_masks_are_read_as_cuda_reads_them() {
    for (value, seen) in [
        ("", "none"),
        ("-1", "none"),
        ("NoDevFiles", "none"),
        ("0", "0"),
        ("3,1,2", "3,1,2"),
        ("0,2,-1,1", "0,2"),
        ("0,,1", "0"),
        ("0,x,1", "0"),
        (" 1 ,\t2", "1,2"),
        ("+1,2", "1,2"),
        ("-0", "0"),
        ("1gpu2,2ampere", "1,2"),
        ("0x10", "0"),
        ("007", "7"),
        ("0,1,0", "none"),
        ("1,01", "none"),
        ("0-3", "0"),
        ("99999999999", "none"),
        ("GPU-1a,GPU-2b", "GPU-1a,GPU-2b"),
        ("GPU-1a,GPU-1a", "none"),
        ("GPU-1a, GPU-2b", "GPU-1a"),
        ("GPU-1a,0,GPU-2b", "GPU-1a"),
        ("0,GPU-1a", "0"),
        (" GPU-1a", "none"),
        ("gpu-1a", "none"),
        ("MIG-1a,GPU-2b", "MIG-1a"),
        ("MIG-GPU-1a/3/0", "MIG-GPU-1a/3/0"),
        ("GPU-1a,MIG-GPU-1a/3/0", "GPU-1a"),
    ] {
        assert_eq!(cuda(value), seen, "{value:?}");
    }
    assert_eq!(Mask::from_cuda(None), Mask::All);
}

#[test]
fn logical_indices_count_among_the_devices_that_the_parent_sees() {
    for (family, inherited, logical, value) in [
        ("cuda", None, "0,2", "0,2"),
        ("cuda", None, "1-3", "1,2,3"),
        ("cuda", Some("2,3"), "0", "2"),
        ("cuda", Some("2,3"), "1,0", "3,2"),
        ("cuda", Some("4,5,6,7"), "1-2", "5,6"),
        ("cuda", Some("0,2,-1,1"), "1", "2"),
        ("cuda", Some("GPU-1a,GPU-2b"), "1", "GPU-2b"),
        ("cuda", Some("MIG-1a,MIG-2b"), "1", "MIG-2b"),
        ("rocm", Some("0x3, GPU-BABAABBA"), "0", "3"),
        ("hip", Some("2,3"), "1", "3"),
        ("level_zero", Some("2,3"), "1", "3"),
        ("level_zero", Some("2,3"), "1.0", "3.0"),
        ("level_zero", Some(""), "1.0,2", "1.0,2"),
        ("oneapi", Some("level_zero:2,3"), "1", "level_zero:3"),
        ("oneapi", Some("*:*"), "0,1", "level_zero:0,1"),
        // These runtimes filter the list of all devices, and keep its order.
        ("level_zero", Some("3,1"), "0", "1"),
        ("level_zero", None, "3,1.1,1.0", "1.0,1.1,3"),
        ("oneapi", Some("level_zero:3,1"), "1,0", "level_zero:1,3"),
        ("tenstorrent", Some("5,4,7"), "2,0", "4,7"),
        ("ascend", Some("1,3,5"), "0,2", "1,5"),
        ("ascend", Some("1, 3,5"), "0", "1"),
        ("neuron", Some("4-7"), "0-3", "4-7"),
        ("neuron", Some("4-7"), "0,2", "4,6"),
        ("neuron", None, "3", "3"),
        ("neuron", None, "1,0", "1,0"),
        ("tpu", None, "0,1", "0,1"),
        ("habana", Some("4,5"), "1", "5"),
        ("mlu", Some("4,5"), "1", "5"),
        ("musa", Some("4,5"), "1", "5"),
        ("supa", Some("4,5"), "1", "5"),
        ("tenstorrent", Some("4,5"), "1", "5"),
        ("furiosa", Some("npu:4,npu:5"), "1,0", "npu:5,npu:4"),
        ("metax", Some("4,5"), "1", "5"),
    ] {
        let found = resolve(family, inherited, logical);
        assert_eq!(
            found.as_deref(),
            Ok(value),
            "{family} {inherited:?} {logical:?}"
        );
    }
}

#[test]
fn a_device_that_cannot_be_granted_is_refused_by_name() {
    for (family, inherited, logical, tells) in [
        (
            "cuda",
            Some("2,3"),
            "2",
            &["\"2\"", "\"2,3\"", "0 to 1"][..],
        ),
        ("cuda", Some("2"), "1", &["\"1\"", "\"2\"", "index 0"]),
        ("cuda", Some(""), "0", &["\"0\"", "hides every device"]),
        ("cuda", Some("0,0"), "0", &["hides every device"]),
        ("metax", Some("-1"), "0", &["hides every device"]),
        ("cuda", None, "4096", &["\"4096\"", "4095"]),
        ("cuda", None, "0-99999", &["\"0-99999\"", "4095"]),
        ("cuda", None, "99999999999999999999", &["4095"]),
        ("cuda", None, "0,1,0", &["\"0\" appears twice"]),
        ("cuda", None, "0,00", &["\"0\" appears twice"]),
        ("cuda", None, "0-2,1", &["\"1\" appears twice"]),
        ("cuda", None, "2-1", &["\"2-1\"", "backwards"]),
        ("cuda", None, "-1", &["\"-1\""]),
        ("cuda", None, "0,", &["\"\""]),
        ("cuda", None, "0, 1", &["\" 1\""]),
        ("cuda", None, "banana", &["\"banana\""]),
        ("cuda", None, "1gpu", &["\"1gpu\""]),
        ("cuda", None, "+1", &["\"+1\""]),
        (
            "cuda",
            None,
            "0.1",
            &["\"0.1\" is a tile", "CUDA_VISIBLE_DEVICES"],
        ),
        ("cuda", None, "0,GPU-1a", &["one kind", "\"GPU-1a\""]),
        ("cuda", None, "GPU-1a,MIG-2b", &["one kind"]),
        ("cuda", None, "GPU-", &["\"GPU-\""]),
        ("cuda", None, "GPU-xyz", &["\"GPU-xyz\""]),
        ("cuda", None, "MIG-GPU-1a/3", &["\"MIG-GPU-1a/3\""]),
        ("cuda", None, "MIG-GPU-1a/x/0", &["MIG-GPU-1a/x/0"]),
        ("cuda", None, "GPU-1a,GPU-1a2b", &["same device"]),
        ("cuda", None, "MIG-1a,MIG-2b", &["one MIG device"]),
        (
            "cuda",
            Some("2,3"),
            "GPU-1a",
            &["\"GPU-1a\"", "\"2,3\"", "indices"],
        ),
        (
            "cuda",
            Some("GPU-1a,GPU-2b"),
            "GPU-3c",
            &["\"GPU-3c\"", "\"GPU-1a,GPU-2b\""],
        ),
        ("cuda", Some("GPU-1a,GPU-1b"), "GPU-1", &["ambiguous"]),
        ("cuda", Some("GPU-1a,GPU-2b"), "MIG-1a", &["not in"]),
        ("rocm", None, "MIG-1a", &["MIG-", "ROCR_VISIBLE_DEVICES"]),
        ("hip", None, "GPU-1a", &["HIP_VISIBLE_DEVICES"]),
        ("level_zero", None, "0,0.1", &["same device"]),
        ("level_zero", Some("0.1"), "0.0", &["0.1", "none"]),
        (
            "level_zero",
            Some("0.0,0.1"),
            "1",
            &["ambiguous", "0.0,0.1"],
        ),
        (
            "oneapi",
            Some("opencl:0"),
            "0",
            &["opencl:0", "level_zero:"],
        ),
        ("ascend", None, "1,0", &["ascending", "\"1,0\""]),
        ("ascend", Some("5,3"), "0,1", &["ascending", "\"5,3\""]),
        (
            "neuron",
            Some("zero"),
            "0",
            &["NEURON_RT_VISIBLE_CORES", "zero"],
        ),
        // Read as no core at all, a child would see none without an error.
        (
            "neuron",
            Some("0,5-2"),
            "0",
            &["NEURON_RT_VISIBLE_CORES", "5-2", "backwards"],
        ),
        ("tpu", None, "0,1,2", &["3 devices", "1, 2, 4, 8"]),
        ("furiosa", Some("4"), "0", &["npu:"]),
    ] {
        let message = why(family, inherited, logical);
        for part in tells {
            assert!(message.contains(part), "{message}\nlacks {part}");
        }
    }
}

#[test]
fn an_id_is_looked_up_in_the_inherited_mask() {
    let parent = Some("GPU-1a2b,GPU-3c4d");
    assert_eq!(resolve("cuda", parent, "GPU-3c4d").unwrap(), "GPU-3c4d");
    // A prefix stands for the device that it matches.
    assert_eq!(resolve("cuda", parent, "GPU-3").unwrap(), "GPU-3c4d");
    // The parent's entry may be the beginning: the longer id cannot name another device.
    let longer = resolve("cuda", parent, "GPU-3c4d-77").unwrap();
    assert_eq!(longer, "GPU-3c4d-77");
    assert_eq!(
        resolve("cuda", None, "MIG-GPU-1a/3/0").unwrap(),
        "MIG-GPU-1a/3/0"
    );
    // ROCr compares in capitals.
    assert_eq!(
        resolve("rocm", Some("gpu-1a2b"), "GPU-1a2b").unwrap(),
        "GPU-1A2B"
    );
}

#[test]
fn hiding_every_device_uses_a_value_that_the_runtime_reads_as_none() {
    for family in families() {
        match family.hiding_value() {
            Some(value) => {
                for asked in ["", "none"] {
                    assert_eq!(resolve(family.name(), None, asked).unwrap(), value);
                }
                // A child of that child has no device to pass on.
                let message = why(family.name(), Some(value), "0");
                assert!(message.contains("hides every device"), "{message}");
                assert_eq!(resolve(family.name(), Some(value), "none").unwrap(), value);
            }
            None => assert!(
                matches!(
                    resolve(family.name(), None, "none"),
                    Err(Error::Unsupported { .. })
                ),
                "{}",
                family.name()
            ),
        }
    }
}

#[test]
fn an_unknown_family_is_refused_with_the_known_ones() {
    let err = family("vulkan").unwrap_err();
    assert!(matches!(err, Error::NotFound { .. }));
    for known in families() {
        assert!(err.to_string().contains(known.name()), "{err}");
    }
    assert!(err.to_string().contains("vulkan"));
}

#[test]
fn cuda_children_count_devices_in_bus_order() {
    let edits = environment("cuda", "1", env(&[("CUDA_VISIBLE_DEVICES", "2,3")])).unwrap();
    assert_eq!(
        edits,
        [
            set("CUDA_VISIBLE_DEVICES", "3"),
            set("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        ]
    );
    // A choice that was made does not change.
    let chosen = env(&[("CUDA_DEVICE_ORDER", "FASTEST_FIRST")]);
    assert_eq!(
        environment("cuda", "1", chosen).unwrap(),
        [set("CUDA_VISIBLE_DEVICES", "1")]
    );
}

#[test]
fn devices_that_opencl_hides_stay_hidden_when_its_variable_is_removed() {
    let inherited = [
        ("ROCR_VISIBLE_DEVICES", "4,5,6"),
        ("GPU_DEVICE_ORDINAL", "2,1"),
    ];
    let rocm = environment("rocm", "0", env(&inherited)).unwrap();
    assert_eq!(
        rocm,
        [
            set("ROCR_VISIBLE_DEVICES", "6"),
            unset("GPU_DEVICE_ORDINAL")
        ]
    );
    let hip = environment("hip", "1", env(&inherited[1..])).unwrap();
    assert_eq!(
        hip,
        [set("HIP_VISIBLE_DEVICES", "1"), unset("GPU_DEVICE_ORDINAL")]
    );
    assert!(environment("rocm", "2", env(&inherited)).is_err());
}

#[test]
fn one_rocm_layer_is_written_and_the_others_are_removed() {
    // HIP's indices count in what ROCr shows: 3 is device 1 of "2,3".
    let both = [
        ("ROCR_VISIBLE_DEVICES", "2,3"),
        ("HIP_VISIBLE_DEVICES", "1"),
    ];
    assert_eq!(
        environment("rocm", "0", env(&both)).unwrap(),
        [
            set("ROCR_VISIBLE_DEVICES", "3"),
            unset("HIP_VISIBLE_DEVICES")
        ]
    );
    assert_eq!(
        environment("hip", "0", env(&both)).unwrap(),
        [
            set("HIP_VISIBLE_DEVICES", "3"),
            unset("ROCR_VISIBLE_DEVICES")
        ]
    );
    // Under ROCR=2,3 the index 2 is none, and HIP says so by showing nothing.
    let trap = [
        ("ROCR_VISIBLE_DEVICES", "2,3"),
        ("HIP_VISIBLE_DEVICES", "2"),
    ];
    assert!(environment("rocm", "0", env(&trap)).is_err());
    // Without its own variable, or with an empty one, HIP reads CUDA's.
    let alias = [("HIP_VISIBLE_DEVICES", ""), ("CUDA_VISIBLE_DEVICES", "4,5")];
    assert_eq!(
        environment("rocm", "1", env(&alias)).unwrap(),
        [
            set("ROCR_VISIBLE_DEVICES", "5"),
            unset("HIP_VISIBLE_DEVICES"),
            unset("CUDA_VISIBLE_DEVICES")
        ]
    );
    // HIP cannot express an id.
    let ids = [("ROCR_VISIBLE_DEVICES", "GPU-1A")];
    assert!(environment("hip", "0", env(&ids)).is_err());
}

#[test]
fn level_zero_and_sycl_masks_compose_into_one() {
    let both = [
        ("ZE_AFFINITY_MASK", "4,5,6"),
        ("ONEAPI_DEVICE_SELECTOR", "level_zero:1,2"),
    ];
    assert_eq!(
        environment("level_zero", "1", env(&both)).unwrap(),
        [
            set("ZE_AFFINITY_MASK", "6"),
            set("ONEAPI_DEVICE_SELECTOR", "level_zero:*")
        ]
    );
    assert_eq!(
        environment("oneapi", "0", env(&both)).unwrap(),
        [
            set("ONEAPI_DEVICE_SELECTOR", "level_zero:5"),
            unset("ZE_AFFINITY_MASK")
        ]
    );
}

#[test]
fn tpu_bounds_follow_the_number_of_chips() {
    let stale = [("TPU_CHIPS_PER_HOST_BOUNDS", "2,2,1")];
    assert_eq!(
        environment("tpu", "2", env(&stale)).unwrap(),
        [
            set("TPU_VISIBLE_CHIPS", "2"),
            set("TPU_CHIPS_PER_HOST_BOUNDS", "1,1,1"),
            set("TPU_HOST_BOUNDS", "1,1,1")
        ]
    );
    assert_eq!(
        environment("tpu", "0-3", env(&stale)).unwrap(),
        [
            set("TPU_VISIBLE_CHIPS", "0,1,2,3"),
            unset("TPU_CHIPS_PER_HOST_BOUNDS")
        ]
    );
}

#[test]
fn older_mlu_name_is_composed_and_removed() {
    let both = [("CN_VISIBLE_DEVICES", "6,7"), ("MLU_VISIBLE_DEVICES", "1")];
    assert_eq!(
        environment("mlu", "1", env(&both)).unwrap(),
        [set("MLU_VISIBLE_DEVICES", "7"), unset("CN_VISIBLE_DEVICES")]
    );
}

/// How PyTorch describes CUDA's parsing, restated over characters: the text to entries.
fn model_entries(value: &str) -> Vec<String> {
    let prefix = ["GPU-", "MIG-"].into_iter().find(|p| value.starts_with(p));
    let mut entries: Vec<String> = Vec::new();
    for token in value.split(',') {
        let entry = match prefix {
            Some(prefix) => token.starts_with(prefix).then(|| token.to_owned()),
            None => {
                let token = token.trim();
                let digits: String = token
                    .chars()
                    .enumerate()
                    .take_while(|(i, c)| c.is_ascii_digit() || (*i == 0 && "+-".contains(*c)))
                    .map(|(_, c)| c)
                    .collect();
                digits
                    .parse::<i64>()
                    .ok()
                    .filter(|n| *n >= 0)
                    .map(|n| n.to_string())
            }
        };
        match entry {
            Some(e) if entries.contains(&e) => return Vec::new(),
            Some(e) => entries.push(e),
            None => break,
        }
    }
    entries
}

/// The same model's second half: entries to positions on a machine.
fn model_ordinals(value: &str, machine: &[String]) -> Vec<usize> {
    let mut seen = Vec::new();
    for entry in model_entries(value) {
        let fits: Vec<usize> = match entry.parse::<usize>() {
            Ok(i) => (0..machine.len()).filter(|&m| m == i).collect(),
            Err(_) => (0..machine.len())
                .filter(|&m| machine[m].starts_with(&entry))
                .collect(),
        };
        match fits[..] {
            [i] if seen.contains(&i) => return Vec::new(),
            [i] => seen.push(i),
            _ => break,
        }
    }
    seen
}

fn machine() -> Vec<String> {
    ["1a2b", "1a3c", "2d4e", "77", "7f"]
        .map(|id| format!("GPU-{id}"))
        .to_vec()
}

fn index_list(below: u32, lengths: std::ops::Range<usize>) -> impl Strategy<Value = Mask> {
    proptest::sample::subsequence((0..below).collect::<Vec<_>>(), lengths)
        .prop_shuffle()
        .prop_map(|list| Mask::List(list.into_iter().map(Device::Index).collect()))
}

fn len(mask: &Mask) -> u32 {
    mask.devices().map_or(0, |d| d.len() as u32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    #[test]
    fn reading_agrees_with_the_model_of_cuda(
        tokens in proptest::collection::vec("[ ]?[+-]?[0-9]{0,2}[x ]?|GPU-[127][af]?[23]?|MIG-[a-c]|", 0..6)
    ) {
        let value = tokens.join(",");
        let read = Mask::from_cuda(Some(&value));
        let entries: Vec<String> = read.devices().unwrap().iter().map(Device::to_string).collect();
        prop_assert_eq!(entries, model_entries(&value), "{:?}", value);
        prop_assert_eq!(read.ordinals(&machine()), model_ordinals(&value, &machine()), "{:?}", value);
    }

    #[test]
    fn composing_is_associative(
        (parent, a, b) in index_list(64, 1..9).prop_flat_map(|parent| {
            let a = index_list(len(&parent), 1..len(&parent) as usize + 1);
            (Just(parent), a).prop_flat_map(|(parent, a)| {
                let b = index_list(len(&a), 1..len(&a) as usize + 1);
                (Just(parent), Just(a), b)
            })
        })
    ) {
        let nested = parent.compose(&a).unwrap().compose(&b).unwrap();
        let at_once = parent.compose(&a.compose(&b).unwrap()).unwrap();
        prop_assert_eq!(nested, at_once);
        prop_assert_eq!(Mask::All.compose(&parent).unwrap(), parent.clone());
        prop_assert_eq!(parent.compose(&Mask::All).unwrap(), parent);
    }

    #[test]
    fn a_child_never_sees_a_device_that_its_parent_does_not_see(
        parent in "([0-9]{1,2},){0,4}[0-9]{1,2}|(GPU-[0-9a-f]{4},){0,4}GPU-[0-9a-f]{4}",
        logical in "([0-4],){0,3}[0-4]|[0-3]-[0-5]|GPU-[0-9a-f]{1,4}|none"
    ) {
        let seen = Mask::from_cuda(Some(&parent));
        if let Ok(value) = resolve("cuda", Some(&parent), &logical) {
            let child = Mask::from_cuda(Some(&value));
            for device in child.devices().unwrap() {
                prop_assert!(seen.devices().unwrap().contains(device), "{} of {}", value, parent);
            }
            // The runtime reads back the written value: it was not truncated.
            prop_assert!(value == "-1" || value == child.to_string(), "{}", value);
        }
    }

    #[test]
    fn any_text_is_answered_without_a_panic(
        name in proptest::sample::select(families().map(|f| f.name()).collect::<Vec<_>>()),
        inherited in proptest::option::of("\\PC{0,12}|[-0-9,. xGPUMI:]{0,12}"),
        logical in "\\PC{0,12}|[-0-9,. GPUMI/a-f]{0,12}"
    ) {
        let _ = resolve(name, inherited.as_deref(), &logical);
    }
}
