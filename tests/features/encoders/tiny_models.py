"""Tiny random models of the real classes, written to disk as the hub would have them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

WORDS = [f"word{n}" for n in range(40)] + ["yes", "no", "red", "blue", "picture", "of", "a"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
PICTURE = {"image_size": 32, "patch_size": 16}


def write_tokenizer(folder: Path) -> int:
    """Write a tokenizer of whole words; return the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<s>", "</s>"]
    vocabulary = {word: number for number, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)
    return len(vocabulary)


def write_models(folder: Path) -> None:
    """Write one model a subfolder: bert, gpt2, sentence, vit, dino, resnet, clip, siglip, ast, clap."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    vocabulary = write_tokenizer(folder / "bert")
    size = {**SMALL, "vocab_size": vocabulary}
    t.BertModel(t.BertConfig(**size, max_position_embeddings=64)).save_pretrained(folder / "bert")
    write_tokenizer(folder / "gpt2")
    ends = {"bos_token_id": 2, "eos_token_id": 3}
    gpt = t.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=vocabulary, n_positions=512, **ends)
    t.GPT2LMHeadModel(gpt).save_pretrained(folder / "gpt2")
    _write_sentence_model(folder)
    t.ViTModel(t.ViTConfig(**SMALL, **PICTURE)).save_pretrained(folder / "vit")
    t.Dinov2Model(t.Dinov2Config(**SMALL, **PICTURE)).save_pretrained(folder / "dino")
    resnet = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    t.ResNetModel(resnet).save_pretrained(folder / "resnet")
    for name in ("vit", "dino", "resnet", "clip", "siglip"):
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "size": {"height": 32, "width": 32},
            "do_resize": True,
            "do_normalize": True,
            "do_rescale": True,
        }
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "preprocessor_config.json").write_text(json.dumps(processor))
    text = {**size, "max_position_embeddings": 16, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    clip = t.CLIPConfig(text_config=text, vision_config={**SMALL, **PICTURE}, projection_dim=8)
    t.CLIPModel(clip).save_pretrained(folder / "clip")
    siglip = t.SiglipConfig(text_config=text, vision_config={**SMALL, **PICTURE})
    t.SiglipModel(siglip).save_pretrained(folder / "siglip")
    for name in ("clip", "siglip"):
        write_tokenizer(folder / name)
    ast = t.ASTConfig(
        **SMALL, patch_size=8, frequency_stride=8, time_stride=8, num_mel_bins=16, max_length=64
    )
    t.ASTModel(ast).save_pretrained(folder / "ast")
    t.ASTFeatureExtractor(num_mel_bins=16, max_length=64).save_pretrained(folder / "ast")
    _write_clap(folder / "clap", size)


def _write_clap(folder: Path, text: dict[str, int]) -> None:
    import transformers as t

    swin = {"spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "depths": [1, 1]}
    swin |= {"num_attention_heads": [2, 2], "patch_embeds_hidden_size": 16, "hidden_size": 32}
    audio = {**swin, "window_size": 4, "projection_dim": 8}
    t.ClapModel(t.ClapConfig(text_config=text, audio_config=audio, projection_dim=8)).save_pretrained(folder)
    window = {"frequency_max": 7000, "fft_window_size": 1024, "hop_length": 250, "nb_max_samples": 32_000}
    t.ClapFeatureExtractor(
        feature_size=16,
        max_length_s=2,
        sampling_rate=16_000,
        truncation="rand_trunc",
        **window,
    ).save_pretrained(folder)


def _write_sentence_model(folder: Path) -> None:
    """Write the model of bert as sentence-transformers keeps it: modules and their settings."""
    shutil.copytree(folder / "bert", folder / "sentence")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "sentence" / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence" / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64}))
    (folder / "sentence" / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "sentence" / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
