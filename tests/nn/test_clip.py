"""CLIP against transformers' CLIPModel with random weights, both towers and both activations; other
models' files are refused by name.
"""

import json

import jax
import numpy as np
import pytest

from tests.oracles import oracle
from vilg.nn import import_clip
from vilg.types import UserError

torch, transformers = oracle("torch"), oracle("transformers")
TEXTS = np.array([[60, 5, 9, 61, 61, 61], [60, 3, 61, 61, 61, 61], [60, 1, 2, 3, 4, 61]], np.int32)


def their_clip(activation, end):
    shared = {"num_hidden_layers": 2, "hidden_act": activation, "layer_norm_eps": 1e-4}
    vision = shared | {
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_attention_heads": 3,
        "image_size": 24,
        "patch_size": 8,
    }
    text = shared | {
        "hidden_size": 32,
        "intermediate_size": 72,
        "num_attention_heads": 2,
        "vocab_size": 62,
        "max_position_embeddings": 6,
    }
    config = transformers.CLIPConfig(
        vision_config=vision,
        text_config=text | {"bos_token_id": 60, "eos_token_id": end},
        projection_dim=20,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.CLIPModel(config).eval().requires_grad_(False)
        for array in model.parameters():  # norms and biases too, or they would not be tested
            array += 0.3 * torch.randn_like(array) / (array.shape[-1] if array.ndim else 1) ** 0.5
    return model


def state(model):
    return {k: v.numpy() for k, v in model.state_dict().items()}


@pytest.mark.parametrize(("activation", "end"), [("quick_gelu", 61), ("gelu", 2)])
def test_towers_and_similarity_agree_with_transformers(activation, end):
    theirs = their_clip(activation, end)
    config = json.loads(theirs.config.to_json_string(use_diff=False))
    ours = import_clip.from_config(config)
    params = import_clip.from_state(ours, state(theirs))
    images = np.random.default_rng(0).standard_normal((2, 24, 24, 3)).astype(np.float32)
    pixels, ids = (
        torch.from_numpy(images.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(TEXTS.astype(np.int64)),
    )
    expected = theirs(input_ids=ids, pixel_values=pixels)
    image, text = jax.jit(ours.apply)({"params": params}, images, TEXTS)
    np.testing.assert_allclose(image, expected.image_embeds.numpy(), atol=1e-4)
    np.testing.assert_allclose(text, expected.text_embeds.numpy(), atol=1e-4)
    cosines = expected.logits_per_image.numpy() / float(theirs.logit_scale.exp())
    np.testing.assert_allclose(image @ text.T, cosines, atol=1e-4)
    assert np.abs(text[0] - text[1]).max() > 0.01


def test_a_config_that_says_little_means_the_published_defaults():
    small = import_clip.from_config({"model_type": "clip", "vision_config": {"patch_size": 16}})
    assert (
        small.vision.patch,
        small.vision.tower.layers,
        small.text.length,
        small.width,
    ) == (16, 12, 77, 512)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "chinese_clip"}, "model_type='chinese_clip' is not 'clip'"),
        (
            {"model_type": "clip", "text_config": {"hidden_act": "relu"}},
            "text_config.hidden_act='relu': .*known names are 'quick_gelu', 'gelu'",
        ),
        (
            {"model_type": "clip", "vision_config": {"num_attention_heads": 5}},
            "vision_config.num_attention_heads=5: must divide",
        ),
    ],
)
def test_a_config_of_another_model_is_refused(config, words):
    with pytest.raises(UserError, match=words):
        import_clip.from_config(config)


def test_weights_of_another_model_are_refused_by_the_first_wrong_key():
    theirs = their_clip("gelu", 61)
    ours = import_clip.from_config(json.loads(theirs.config.to_json_string(use_diff=False)))
    for change, words in (
        ({"visual_projection.weight": None}, "has no visual_projection.weight"),
        (
            {"text_model.embeddings.token_embedding.weight": np.zeros((9, 32))},
            r"token_embedding.weight has shape \(9, 32\), expected \(62, 32\)",
        ),
        (
            {"vision_model.encoder.layers.2.mlp.fc1.bias": np.zeros(3)},
            "also holds vision_model.encoder.layers.2.mlp.fc1.bias",
        ),
    ):
        wrong = {k: v for k, v in {**state(theirs), **change}.items() if v is not None}
        with pytest.raises(UserError, match=words):
            import_clip.from_state(ours, wrong)
