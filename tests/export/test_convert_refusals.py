"""Where `dien convert` stops: what cannot be faithful, what is missing, what is left over, each named."""

import json
import pickle

import numpy as np
import pytest
import torch

from dien.model import documents
from dien.sources import convert
from dien.sources import weights
from dien.sources.source import ConversionError, Source
from support.dien_command import run_dien
from test_convert import CASES, GOLDEN, command, converted, framework


def refused(case, message, change=None, **options):
    with pytest.raises(ConversionError, match=message):
        converted(case, change=change, **options)


# ---- no faithful equivalent


def test_torch_rechub_before_0_8():
    """Its AUGRU starts from a random state; the attention matrix inside the cell gives it away."""

    def old(_, tensors):
        for i in range(2):
            tensors[f"interest_evolving_layers.{i}.augru_cell.Wa"] = tensors.pop(f"interest_evolving_layers.{i}.Wa")

    refused("torch-rechub-dien", r"interest_evolving_layers.0.augru_cell.Wa.*0.4 to 0.7.*random state", old)


@pytest.mark.parametrize(
    "told, said, version, softmax",
    [
        ("off", None, "1.1.1", "none"),
        ("off", None, None, "none"),
        (None, False, "1.1.1", "none"),
        ("on", None, None, "softmax"),
        (None, None, "1.2.0", "softmax"),
        (None, None, "1.2.1", "softmax"),
        ("off", True, "1.2.1", "none"),
    ],
)
def test_recbole_softmax_by_version(told, said, version, softmax):
    def change(architecture, _):
        for key, value in (("attention_softmax", said), ("peer_version", version)):
            architecture.pop(key)
            if value is not None:
                architecture[key] = value

    config, _ = converted("recbole-dien-augru", change=change, attention_softmax=told)
    assert config["interests"][0]["attention"]["normalise"] == softmax


@pytest.mark.parametrize(
    "told, said, version", [(None, None, "1.1.1"), (None, True, "1.1.1"), ("on", None, "1.0.0"), (None, None, None)]
)
def test_recbole_before_1_2_unless_told(told, said, version):
    def change(architecture, _):
        for key, value in (("attention_softmax", said), ("peer_version", version)):
            architecture.pop(key)
            if value is not None:
                architecture[key] = value

    refused("recbole-dien-augru", "--attention-softmax o", change, attention_softmax=told)


def test_dice_of_the_batch_needs_data():
    def dice(architecture, tensors):
        architecture["use_dice"] = True
        for place, units in ((1, 200), (2, 80)):
            del tensors[f"prelu{place}/prelu_prelu{place}"]
            tensors[f"dice_{place}/alphadice_{place}"] = np.full(units, 0.2, np.float32)

    refused("reference-tf1-prelu", "--calibrate", dice)
    requests = [
        {key: request[key] for key in ("user", "history", "candidates")}
        for request in documents.read(GOLDEN / "reference-tf1-prelu" / "requests.json")
    ]
    config, tensors = converted("reference-tf1-prelu", change=dice, calibrate=requests)
    assert [layer["activation"] for layer in config["mlp"]["layers"]] == ["dice", "dice", "linear"]
    assert tensors["mlp.layers.1.gain"].std() > 0


def test_keras_without_the_second_gru(tmp_path):
    """DeepCTR's AGRU and AUGRU cells do not save their weights."""
    names = ["sparse_emb_item_id/embeddings:0", "gru1/gru_cell/gates/kernel:0", "dnn/kernel0:0"]
    np.savez(tmp_path / "a.npz", **{name: np.zeros((2, 2), np.float32) for name in names})
    tensors = weights.read(str(tmp_path / "a.npz"))
    assert "gru1/gru_cell/gates/kernel" in tensors
    with pytest.raises(ConversionError, match="these are DeepCTR's tensors: convert them with --from deepctr"):
        convert.convert("reference-tf1", {}, Source(tensors))
    refused(
        "reference-tf1-prelu",
        "gru2/gates/kernel is missing",
        lambda _, tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("gru2/")],
    )


def test_paddlerec(tmp_path):
    (tmp_path / "rec.pdparams").write_bytes(pickle.dumps({}))
    with pytest.raises(ConversionError, match="attention's weights are in no checkpoint"):
        weights.read(str(tmp_path / "rec.pdparams"))
    for case in CASES:
        refused(
            case,
            "PaddleRec's.*attention's weights are in no checkpoint",
            lambda _, tensors: tensors.update(
                {"hist_item_emb_attr.weight": np.zeros((3, 2)), "linear_0.weight": np.zeros((2, 2))}
            ),
        )


def test_fuxictr_sum_over_padding_that_is_not_zero():
    def change(_, tensors):
        for name in ("item_id", "click_history"):
            tensors[f"embedding_layer.embedding_layers.{name}.weight"] = (
                tensors[f"embedding_layer.embedding_layers.{name}.weight"] + 1
            )

    refused("fuxictr-augru-din-dice-sumpool", "click_history.weight: row 0 is not zero and sum pooling adds it", change)


# ---- what the tensors and the architecture file lack, or have too much of


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_needed(case):
    """Without any one of them the conversion stops and names it, but for those that play no part or are doubled."""
    idle = (
        "auxiliary_net",
        "aux_net",
        "num_batches_tracked",
        "gru/kernel",
        "gru/bias",
        "bn1gru",
        "neg_",
        "f1gru",
        "f2gru",
        "f3gru",
    )
    shared = ("click_history", "cate_history", "shop_history")
    tensors = weights.read(str(GOLDEN / case / "state_dict.safetensors"))
    architecture = documents.read(GOLDEN / case / "architecture.json")
    tried = 0
    for name in tensors:
        left = {key: value for key, value in tensors.items() if key != name}
        if case == "deepctr-augru" and name.startswith("dnn/"):
            continue  # of the auxiliary loss: without one of them it is no longer recognised
        if any(part in name for part in (*idle, *shared)):
            convert.convert(framework(case), architecture, Source(left))
            continue
        tried += 1
        with pytest.raises(ConversionError) as error:
            convert.convert(framework(case), architecture, Source(left))
        assert name in str(error.value) or name.replace("gru_cell/", "") in str(error.value), (name, str(error.value))
    assert tried > 15


@pytest.mark.parametrize("case", CASES)
def test_left_over(case):
    extra = {"dnn.linears.9.weight": np.zeros((2, 2)), "surplus": np.zeros(3)}
    refused(case, "no use for tensor .*surplus", lambda _, tensors: tensors.update(extra))


@pytest.mark.parametrize(
    "case, name",
    [
        ("deepctr-torch-agru", "interest_extractor.gru.weight_hh_l0"),
        ("deepctr-torch-agru", "linear.weight"),
        ("fuxictr-augru-bilinear", "attention_modules.0.W_kernel"),
        ("torch-rechub-dien", "interest_evolving_layers.1.augru_cell.Uh"),
        ("recbole-dien-augru", "embedding_layer.token_embedding_table.item.embedding.weight"),
        ("reference-tf1-prelu", "f2/kernel"),
    ],
)
def test_misshapen(case, name):
    def change(_, tensors):
        tensors[name] = np.zeros((7, 3), np.float32)

    refused(case, r"has shape \[7, 3\], not \[|have 3$|shape", change)


def test_not_finite():
    def change(_, tensors):
        tensors["out.bias"] = np.array([np.nan], np.float32)

    refused("deepctr-torch-gru", "tensor mlp.layers.2.bias is not finite", change)


@pytest.mark.parametrize("case", CASES)
def test_unknown_keys_of_the_architecture_file(case):
    """A convention that nobody reads would be a score that is wrong; a remark is none."""
    refused(
        case,
        "architecture key time_decay is not understood",
        lambda architecture, _: architecture.update(time_decay=0.5),
    )
    converted(case, change=lambda architecture, _: architecture.update(note="x", peer_python="3.11", comment="y"))


@pytest.mark.parametrize(
    "case, key",
    [
        ("deepctr-torch-augru", "gru_type"),
        ("deepctr-torch-augru", "att_activation"),
        ("deepctr-torch-augru", "att_weight_normalization"),
        ("deepctr-torch-augru", "dnn_activation"),
        ("deepctr-torch-augru", "use_bn"),
        ("deepctr-torch-augru", "max_length"),
        ("fuxictr-augru-bilinear", "gru_type"),
        ("fuxictr-augru-bilinear", "attention_type"),
        ("fuxictr-augru-bilinear", "feature_map"),
        ("fuxictr-augru-bilinear", "use_attention_softmax"),
        ("fuxictr-augru-bilinear", "dnn_activations"),
        ("torch-rechub-dien", "history_features"),
        ("torch-rechub-dien", "max_length"),
        ("torch-rechub-dien", "groups"),
        ("recbole-dien-augru", "item_fields"),
        ("reference-tf1-prelu", "max_length"),
    ],
)
def test_required_keys(case, key):
    refused(case, f"{key} is missing|{key}", lambda architecture, _: architecture.pop(key))


@pytest.mark.parametrize(
    "case, change, message",
    [
        ("deepctr-torch-augru", {"gru_type": "LSTM"}, "gru_type is 'LSTM'"),
        ("deepctr-torch-augru", {"dnn_activation": "gelu"}, "activation gelu"),
        ("deepctr-torch-augru", {"dnn_hidden_units": [200, 90]}, r"says \[200, 90\], the tensors have \[200, 80\]"),
        ("deepctr-torch-augru", {"dense_features": []}, "1 inputs are left for the dense features"),
        ("deepctr-torch-augru", {"gru_type": "GRU"}, "interest_evolution.weight_hh_l0 is missing"),
        ("deepctr-torch-augru", {"use_bn": True}, "dnn.bn.0.weight is missing"),
        ("deepctr-torch-augru", {"dnn_activation": "dice"}, "dnn.activation_layers.0.alpha is missing"),
        ("deepctr-torch-augru", {"task": "regression"}, "task is 'regression'"),
        ("fuxictr-augru-bilinear", {"attention_type": "din_attention"}, "attn_mlp.mlp.0.weight is missing"),
        ("fuxictr-augru-bilinear", {"attention_type": "additive"}, "attention_type is 'additive'"),
        ("fuxictr-augru-bilinear", {"gru_type": "AIGRU"}, "gru_type is 'AIGRU'"),
        ("fuxictr-augru-bilinear", {"enable_sum_pooling": True}, "dnn.mlp.0.weight has shape"),
        (
            "fuxictr-augru-bilinear",
            {"mlp_input_order": ["scenario", "user_id"]},
            "mlp_input_order: the feature map gives user_id, item_id",
        ),
        ("recbole-dien-augru", {"attention_scale": 1.0}, "attention_scale"),
        ("recbole-dien-augru", {"dnn_activation": "mish"}, "activation mish"),
        ("torch-rechub-dien", {"mlp_params": {"dims": [256, 128], "activation": "relu"}}, "has Dice and no other"),
        ("reference-tf1-prelu", {"HIDDEN_SIZE": 18}, "HIDDEN_SIZE is 18, the tensors have 36"),
        ("reference-tf1-prelu", {"mlp_input_order": ["uid", "sum"]}, "mlp_input_order: sum is not one of"),
    ],
)
def test_contradictions(case, change, message):
    refused(case, message, lambda architecture, _: architecture.update(change))


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("reference")])
def test_features_without_a_group(case):
    refused(case, "groups", lambda architecture, _: architecture["groups"].update(user=[], context=[]))


def test_a_group_that_is_none():
    refused(
        "deepctr-torch-gru",
        "groups: weather is none of",
        lambda architecture, _: architecture["groups"].update(weather=["x"]),
    )


def test_a_field_name_that_the_wire_cannot_carry():
    def rename(architecture, tensors):
        text = json.dumps(architecture).replace("pay_score", "pay score")
        architecture.clear()
        architecture.update(json.loads(text))

    refused("deepctr-torch-gru", "field 'pay score': a name is made of", rename)


# ---- files


def test_pickles_that_hold_more_than_tensors(tmp_path):
    """RecBole's own .pth, and a whole module: refused unread, with what to do."""
    torch.save({"state_dict": {}, "other_parameter": torch.nn.Linear(1, 1)}, tmp_path / "a.pth")
    with pytest.raises(ConversionError, match="torch.save.*state_dict.pt"):
        weights.read(str(tmp_path / "a.pth"))
    torch.save([1, 2], tmp_path / "b.pt")
    with pytest.raises(ConversionError, match="neither a state dict"):
        weights.read(str(tmp_path / "b.pt"))


def test_nothing_in_a_file_is_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "went off"), "w")

    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": Bomb()}))
    with pytest.raises(ConversionError, match="dict of string to index"):
        convert.read_vocabulary(str(tmp_path / "a.pkl"))
    torch.save({"x": Bomb()}, tmp_path / "a.pt")
    with pytest.raises(ConversionError):
        weights.read(str(tmp_path / "a.pt"))
    np.savez(tmp_path / "a.npz", x=np.array([Bomb()], object))
    with pytest.raises(ConversionError):
        weights.read(str(tmp_path / "a.npz"))
    assert not (tmp_path / "went off").exists()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("ckpt.index", b"x" * 64, "does not end as a LevelDB table"),
        ("ckpt.data-00000-of-00001", b"x" * 64, "data without its index: ckpt.index is missing"),
        ("a.pt", b"", "not a PyTorch state dict"),
        ("a.pt", b"hello", "is text, not a checkpoint"),
        ("a.npz", b"PK\x03\x04", "zip"),
        ("a.pt", b"\x80\x02}", "a.pt"),
        ("a.safetensors", b"\xff\0\0\0\0\0\0\0{", "header"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    run = run_dien("convert", "--from", "fuxictr", "--architecture", GOLDEN / CASES[0] / "architecture.json",
                   "--weights", tmp_path / name, "--output", tmp_path / "out")
    assert run.returncode == 1 and message in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_prefix(tmp_path):
    (tmp_path / "ckpt.index").write_bytes(b"x")
    with pytest.raises(ConversionError, match="does not end as a LevelDB table"):
        weights.read(str(tmp_path / "ckpt"))


def test_the_wrong_framework():
    """Each checkpoint is refused as any other's."""
    for case in CASES:
        for other in set(convert.FRAMEWORKS) - {framework(case)}:
            architecture = documents.read(
                next(GOLDEN / each for each in CASES if framework(each) == other) / "architecture.json"
            )
            with pytest.raises(ConversionError):
                convert.convert(
                    other, architecture, Source(weights.read(str(GOLDEN / case / "state_dict.safetensors")))
                )


# ---- samples


def test_scores_that_disagree(tmp_path):
    requests = documents.read(GOLDEN / "torch-rechub-dien" / "requests.json")
    requests[3]["scores"][2] += 1.2e-5
    (tmp_path / "requests.json").write_text(json.dumps(requests))
    run = command("torch-rechub-dien", "--samples", tmp_path / "requests.json", "--output", tmp_path / "out")
    assert run.returncode == 1 and "sample 3: the network's score differs by 1.2" in run.stderr
    assert not (tmp_path / "out").exists()


def test_scores_prove_what_a_key_leaves_open(tmp_path):
    """With scores to compare with, a key that nobody understands is a note."""
    architecture = documents.read(GOLDEN / "torch-rechub-dien" / "architecture.json")
    (tmp_path / "architecture.json").write_text(json.dumps({**architecture, "time_decay": 0}))
    run = command("torch-rechub-dien", "--architecture", tmp_path / "architecture.json", "--output", tmp_path / "out")
    assert run.returncode == 1 and "time_decay is not understood" in run.stderr
    run = command(
        "torch-rechub-dien",
        "--architecture",
        tmp_path / "architecture.json",
        "--output",
        tmp_path / "out",
        "--samples",
        GOLDEN / "torch-rechub-dien" / "requests.json",
    )
    assert run.returncode == 0 and "note: architecture key time_decay is not understood" in run.stdout


@pytest.mark.parametrize(
    "content, message", [("[]", "not a list of one request"), ("{", "Expecting"), ('[{"history": {}}]', "candidates")]
)
def test_samples_that_are_none(tmp_path, content, message):
    (tmp_path / "requests.json").write_text(content)
    run = command("torch-rechub-dien", "--samples", tmp_path / "requests.json", "--output", tmp_path / "out")
    assert run.returncode == 1 and message in run.stderr and "Traceback" not in run.stderr


def test_missing_flags():
    run = run_dien("convert", "--from", "recbole")
    assert run.returncode == 2 and "--architecture, --weights, --output" in run.stderr
