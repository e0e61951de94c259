"""Faults that the tests must notice: `python tests/faults.py [NAME ...]`, all of them without a name.

Each is put into a copy of the project, and the tests named beside it are run there until one fails: those that run by
default, unless the fault is one that only slow tests notice. A fault that none notices ends the program with status 1.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]


class Fault(NamedTuple):
    """A replacement in a file, which the tests of these files notice."""

    file: str
    right: str
    wrong: str
    tests: str
    slow: bool = False


FAULTS = {
    # Several devices.
    "gradients of banks over devices": Fault(
        "attgconv_jax/kernels/devices.py", "function(f, *varying_alike(weights, f))", "function(f, *weights)", "devices"
    ),
    "masks of layers that collide on devices": Fault(
        "attgconv_jax/kernels/dropout_mask.py", "start * devices)", "start)", "devices"
    ),
    "statistics of one device": Fault(
        "attgconv_jax/kernels/normalisation.py", "variance + jnp.square(own - mean)", "variance", "devices"
    ),
    "every device computes the first group elements": Fault(
        "attgconv_jax/kernels/elements.py", "lax.axis_index(axis) * (x.shape[along] // parts)", "0", "devices"
    ),
    "every process reads the first part": Fault(
        "experiments/data/stream.py",
        "return start + self.index * size, start + (self.index + 1) * size",
        "return start, start + size",
        "stream",
    ),
    "maxima gathered by devices": Fault(
        "attgconv_jax/kernels/devices.py",
        "out_sharding=jax.typeof(x).sharding if is_spread(x) else None",
        "out_sharding=None",
        "devices",
    ),
    # Groups, filters and geometry.
    "product of reflections": Fault(
        "attgconv_jax/groups.py", "reflection == 1, -1, 1", "reflection == 1, 1, 1", "groups"
    ),
    "action by g": Fault("attgconv_jax/groups.py", "self.product[self.inverse]", "self.product", "groups"),
    "filters transformed by g^-1": Fault("attgconv_jax/bases/grid.py", '"gji,uj->gui"', '"gij,uj->gui"', "filters"),
    "functions turned by the inverse": Fault("attgconv_jax/bases/basis.py", '"ui,gij->guj"', '"ui,gji->guj"', "bases"),
    "functions of any error": Fault(
        "attgconv_jax/bases/eigenfunctions.py", "errors <= tolerance**2", "errors <= 1 + tolerance**2", "bases"
    ),
    "aliased after all": Fault(
        "attgconv_jax/antialiasing.py", "np.exp(-(t**2) / 2)", "np.exp(-(t**2) / 2e-4)", "antialiasing"
    ),
    "activations that fade or grow": Fault(
        "attgconv_jax/bases/scales.py", "np.exp(-np.sum(layers * logarithms) / np.sum(layers**2))", "1.0", "bases"
    ),
    "3 pixels without a direction": Fault(
        "attgconv_jax/filters.py", "sampling.kind is None and size == _LEAST_SIZE", "False", "bases"
    ),
    "a basis for any group of its order": Fault(
        "attgconv_jax/bases/basis.py", "if self._group not in (None, group):", "if False:", "bases"
    ),
    "networks that pool by squares": Fault(
        "attgconv_jax/models/layers.py",
        "smooth_max_pool(f, group, **options) if antialiased",
        "max_pool(f, group, antialiased=True, **options) if antialiased",
        "antialiasing",
    ),
    "derivatives as precise as wherever they are traced": Fault(
        "attgconv_jax/kernels/convolution.py", "with settings.restored():", "if True:", "precision"
    ),
    "networks that convolve as they like": Fault(
        "attgconv_jax/models/base.py", "computing(implementation=self.implementation, ", "computing(", "implementation"
    ),
    "scores in low precision": Fault(
        "attgconv_jax/attention/non_local_block.py", "images = wide(f)", "images = f", "low_precision"
    ),
    "sums in low precision": Fault(
        "attgconv_jax/kernels/chunks.py", "return x.astype(sum_dtype(x))", "return x", "low_precision"
    ),
    "tangents of another pixel": Fault(
        "attgconv_jax/kernels/windows.py", "jnp.where(index == a, tap, 0)", "jnp.where(index == 0, tap, 0)", "pooling"
    ),
    "masks that networks forget": Fault(
        "attgconv_jax/nn/nonlinearity.py", "if masked else", "if False else", "antialiasing"
    ),
    "masks of another radius": Fault(
        "attgconv_jax/antialiasing.py", "(min(x, y) - 1) / 2", "min(x, y) / 2", "antialiasing"
    ),
    "the paper's frequency on few pixels": Fault(
        "attgconv_jax/lie/kernels.py", "min(PAPER_FREQUENCY, 7 * ", "min(PAPER_FREQUENCY, 70 * ", "nn_lie"
    ),
    "functions turned the other way": Fault("attgconv_jax/bases/basis.py", "[cos, -sin]", "[cos, sin]", "bases"),
    "signs left to the solver": Fault(
        "attgconv_jax/bases/eigenfunctions.py", "functions * np.sign(", "functions * np.abs(", "bases"
    ),
    "errors at higher frequencies": Fault(
        "attgconv_jax/bases/eigenfunctions.py", "BAND = 0.075", "BAND = 0.3", "bases"
    ),
    "attention's filter in the basis of the layer's": Fault(
        "attgconv_jax/nn/response.py", 'options["attention_sampling"] = self.sampling', "pass", "basis_filters"
    ),
    "disc too large": Fault("attgconv_jax/filters.py", "<= radius + 1e-9", "<= radius + 1", "filters"),
    "odd pixel before": Fault(
        "attgconv_jax/geometry.py",
        "total // 2, total - total // 2",
        "total - total // 2, total // 2",
        "geometry convolution",
    ),
    "strides off centre": Fault(
        "attgconv_jax/geometry.py", "% window.stride == 0", "% window.stride < 2", "geometry equivariance"
    ),
    # Convolution and pooling.
    "no Haar weight": Fault(
        "attgconv_jax/convolution.py", "if haar and bank.shape[2] > 1:", "if haar and bank.shape[2] < 1:", "convolution"
    ),
    "padding counts as zero": Fault("attgconv_jax/kernels/windows.py", "axis, -jnp.inf)", "axis, 0)", "pooling"),
    "low-pass beside its window": Fault(
        "attgconv_jax/antialiasing.py", "(window.size - 1) / 2", "(window.size - 1) // 2", "antialiasing"
    ),
    "maxima where windows are alone": Fault(
        "attgconv_jax/antialiasing.py", "window._replace(stride=1)", "window", "antialiasing"
    ),
    "relu at the pixels alone": Fault(
        "attgconv_jax/antialiasing.py", "resampled(nonlinearity(fine)", "resampled(fine", "antialiasing"
    ),
    # Errors under any element.
    "angles moved backwards": Fault("attgconv_jax/moves.py", "(angle - turn)", "(angle + turn)", "angles"),
    "border compared": Fault(
        "attgconv_jax/probes.py", "_reached(applied, f, plain, tolerance) - ", "count / 2 - ", "angles"
    ),
    "content that leaves the grid": Fault("attgconv_jax/probes.py", "1 and not ends", "1 and ends", "angles"),
    "last of equal maxima": Fault(
        "attgconv_jax/kernels/maxima.py", "(j < i) & ((a == b)", "(j > i) & ((a == b)", "kernels_maximum"
    ),
    "symbolic batch cut into chunks": Fault(
        "attgconv_jax/kernels/chunks.py", "is_portable() or is_symbolic(f.shape[0])", "is_portable()", "portable"
    ),
    "symbolic batch asked what pays": Fault(
        "attgconv_jax/kernels/convolution.py", "not chunks.is_symbolic(f.shape[0]) and fourier", "fourier", "portable"
    ),
    "portable way left to the platform": Fault(
        "attgconv_jax/kernels/chunks.py", "is_portable() or is_symbolic(f", "False or is_symbolic(f", "portable"
    ),
    "variance as a difference": Fault(
        "attgconv_jax/nn/norm.py", "use_fast_variance=False", "use_fast_variance=True", "norm"
    ),
    "banks made in the exported program": Fault(
        "attgconv_jax/export/folding.py", "and not equation.effects", "and bool(equation.effects)", "export"
    ),
    "exported without standardisation": Fault(
        "attgconv_jax/export/program.py",
        "preprocessing.apply(images[..., None, :])",
        "preprocessing.apply(images[..., None, :]) * preprocessing.deviation",
        "export",
    ),
    "dropout not scaled": Fault(
        "attgconv_jax/kernels/dropout_mask.py", "f * (2**32 / (2**32 - dropped))", "f", "kernels_dropout"
    ),
    "variance without the group axis": Fault(
        "attgconv_jax/initializers.py",
        "np.sqrt(2 / np.prod(shape[:4]))",
        "np.sqrt(2 / np.prod(shape[:2]))",
        "initializers nn",
    ),
    # Attention.
    "attended instead of suppressed": Fault("attgconv_jax/attention/co.py", '"suppress")', '"emphasise")', "attention"),
    "statistics of other elements": Fault(
        "attgconv_jax/attention/layers.py", "group.product.T[:, :, None]", "group.product[:, :, None]", "operators"
    ),
    "biased deviation": Fault("attgconv_jax/attention/sge.py", "(1 / (positions - 1))", "(1 / positions)", "operators"),
    "unbiased as well as not": Fault(
        "attgconv_jax/attention/srm.py", "/ (count - unbiased)", "/ count", "published_attention"
    ),
    "overlapping windows beyond the map": Fault(
        "attgconv_jax/attention/ge.py",
        "np.minimum(windows * extent + extent, length)",
        "windows * extent + extent",
        "published_attention",
    ),
    "mean instead of maximum": Fault(
        "attgconv_jax/attention/spatial.py",
        "mean, highest = kernels.mean_and_maximum(f)",
        "mean = highest = jnp.mean(f, axis=-1)",
        "attention",
    ),
    "gradient of the mean response": Fault(
        "attgconv_jax/kernels/response/statistics.py",
        "d_mean)[..., None] / n",
        "d_mean)[..., None]",
        "kernels_response",
    ),
    "slope of the channel attention in blocks": Fault(
        "attgconv_jax/kernels/response/blocks.py",
        "pull_back((1 - alpha) * scaled)",
        "pull_back(scaled)",
        "kernels_response_blocks",
    ),
    "channel of the maximum in blocks": Fault(
        "attgconv_jax/kernels/response/blocks.py",
        "d_r = d_r + jnp.where(here, d_largest[:, None], 0)",
        "d_r = d_r + d_largest[:, None]",
        "kernels_response_blocks",
    ),
    "a variance as Flax keeps it": Fault(
        "attgconv_jax/nn/norm.py", "return count / (count - 1)", "return count / count", "running_statistics"
    ),
    "statistics of no number": Fault(
        "attgconv_jax/nn/norm.py", "return former if count < 2 else moved", "return moved", "running_statistics"
    ),
    "statistics of one number": Fault("attgconv_jax/nn/norm.py", "count == 1:", "count == -1:", "running_statistics"),
    "norms of one number that are made": Fault(
        "attgconv_jax/nn/attention_norm.py",
        "or _channels_together(kind, channels) > 1:",
        "or kind:",
        "running_statistics",
    ),
    "layer norms over the batch": Fault(
        "attgconv_jax/kernels/normalisation.py",
        "(*range(batch_axes, x.ndim - 1), -1)",
        "(*range(x.ndim - 1), -1)",
        "running_statistics",
    ),
    "a kept variance that is not saved": Fault(
        "attgconv_jax/models/description.py",
        "set_running_variance(network, running_variance)",
        "",
        "running_statistics",
    ),
    "gradient of batch norm": Fault(
        "attgconv_jax/kernels/normalisation.py",
        "scale_dot - factor * along_z",
        "scale_dot",
        "norm",
    ),
    "attention filter cut short": Fault(
        "attgconv_jax/kernels/response/xla.py",
        "(longest - 1) // dilation",
        "(longest - 2) // dilation",
        "kernels_response response_attention",
    ),
    # Lie groups.
    "measure of scales": Fault(
        "attgconv_jax/lie/groups.py",
        "if scales is None else scales**2",
        "if scales is None else scales",
        "lie_groups lie_kernels",
    ),
    "kernels transformed by g": Fault(
        "attgconv_jax/lie/kernels.py",
        "group.matrices(group.inverse(out_grid))",
        "group.matrices(out_grid)",
        "lie_kernels",
    ),
    "filters of one pixel at the centre": Fault(
        "attgconv_jax/lie/kernels.py",
        "at_corner = paper and group.scales is not None",
        "at_corner = False",
        "one_pixel",
    ),
    # Networks.
    "shortcuts past the norm": Fault(
        "attgconv_jax/models/preactivation.py",
        "skipped = active if self.activated else f",
        "skipped = f",
        "preactivation",
    ),
    "shortcuts that keep their size": Fault(
        "attgconv_jax/models/preactivation.py",
        "skipped = self._halved(self.shortcut(skipped))",
        "skipped = self.shortcut(skipped)[..., ::2, ::2, :, :] if self.pools else self.shortcut(skipped)",
        "preactivation",
    ),
    "dense layers behind their input": Fault(
        "attgconv_jax/models/densenet.py",
        "[layer.conv(activated), f[..., 1:-1, 1:-1, :, :]]",
        "[f[..., 1:-1, 1:-1, :, :], layer.conv(activated)]",
        "densenet",
    ),
    "attention of one width": Fault(
        "attgconv_jax/models/densenet.py", "Layer(3, attention_size=5)", "Layer(3)", "densenet"
    ),
    # Weights and files.
    "stages in another order": Fault(
        "attgconv_jax/interop/reference.py", "zip((32, 16, 8)", "zip((8, 16, 32)", "interop"
    ),
    "file's axes": Fault(
        "attgconv_jax/interop/slots.py", "(4, 3, 2, 0, 1), **", "(4, 3, 2, 1, 0), **", "interop interop_published"
    ),
    "pickles are trusted": Fault(
        "attgconv_jax/interop/torch_pickle.py",
        "    if name not in _MAKERS and name.removeprefix",
        "    if False and name.removeprefix",
        "interop_hostile",
    ),
    "tensors reach beyond their numbers": Fault(
        "attgconv_jax/interop/torch_pickle.py",
        "if size > len(numbers) or (size and last >= len(numbers)):",
        "if False:",
        "interop_hostile",
    ),
    "what is written on a tensor is ignored": Fault(
        "attgconv_jax/interop/torch_pickle.py", "    if metadata:\n", "    if False:\n", "interop_hostile"
    ),
    "the last filter has three pixels, whatever the others": Fault(
        "attgconv_jax/interop/sepgconv.py", "- kernel_size, 3), 11)", "- kernel_size, 3), 3)", "interop_published"
    ),
    "attention on responses is averaged over the group": Fault(
        "attgconv_jax/interop/inflation.py",
        "np.repeat(array, group.order, axis)",
        "np.repeat(array / group.order, group.order, axis)",
        "inflate",
    ),
    "filters of attention are averaged": Fault(
        "attgconv_jax/interop/inflation.py", "axis < array.ndim - 1 and", "array.ndim == 5 and", "inflate"
    ),
    "running statistics are halves": Fault(
        "attgconv_jax/interop/slots.py",
        "jnp.promote_types(dtype, jnp.float32) if",
        "dtype if",
        "interop_published",
    ),
    "the spatial statistics of CBAM are not swapped": Fault(
        "attgconv_jax/interop/pytorch_insight.py", ", reversed_axis=1", "", "interop_published"
    ),
    "filters are inflated into another slot": Fault(
        "attgconv_jax/interop/inflation.py",
        "np.concatenate([array, others], axis)",
        "np.concatenate([others, array], axis)",
        "inflate",
    ),
    "a loaded network trains": Fault(
        "attgconv_jax/models/arrays.py",
        "    module.eval()\n",
        "    module.train()\n",
        "checkpoint former_networks",
    ),
    "changed networks are saved": Fault(
        "attgconv_jax/models/checkpoint.py", "    if different:\n        name", "    if False:\n        name", "saving"
    ),
    "pixels are not standardised": Fault(
        "attgconv_jax/models/classifier.py",
        "self.preprocessing.apply(images) if raw",
        "images / 1.0 if raw",
        "classifier",
    ),
    # Figures.
    "a compiled network recorded once": Fault(
        "attgconv_jax/plotting/recording.py",
        "setattr(module, _RUN, run)",
        "setattr(type(module), _RUN, run)",
        "plotting_any",
    ),
    "every call is the first": Fault(
        "attgconv_jax/plotting/recording.py", "if count == 1 else", "if count > 0 else", "plotting_any"
    ),
    "attention on what the network leaves": Fault(
        "attgconv_jax/plotting/recording.py",
        "self.attention_maps(*args, **kwargs)",
        "self.attention_maps(output)",
        "plotting_any",
    ),
    "a group axis is for pixels": Fault(
        "attgconv_jax/plotting/layers.py",
        "if rank == 2 and h == order > 1",
        "if rank == 2 and h > order",
        "plotting_any",
    ),
    "measured in training mode": Fault(
        "attgconv_jax/equivariance.py", "    check_mode(function)\n", "", "plotting_refusals"
    ),
    # Training and runs.
    "filling counts as errors": Fault(
        "experiments/run/training.py", "labels, filling=-1)", "labels, filling=0)", "training"
    ),
    "the same order every epoch": Fault(
        "experiments/run/training.py", "jax.random.fold_in(state.key, epoch)", "state.key", "training"
    ),
    "gradients of parts added up": Fault(
        "experiments/run/accumulation.py", "lambda total: total / parts", "lambda total: total", "accumulation"
    ),
    "averages that nobody evaluates": Fault(
        "experiments/run/training.py", "return state.average or (state", "return (state", "accumulation"
    ),
    "checkpointing that keeps everything": Fault(
        "attgconv_jax/nn/checkpointing.py", "    @jax.checkpoint\n", "", "checkpointing"
    ),
    "every epoch of a stream in the same order": Fault(
        "experiments/data/stream.py", "SeedSequence([seed, epoch])", "SeedSequence([seed, 0])", "stream"
    ),
    "turned the other way": Fault(
        "experiments/augmentation/geometry.py", "sine, zero, -sine", "-sine, zero, sine", "augmentation"
    ),
    "every step changes images alike": Fault(
        "experiments/run/training.py", "_AUGMENTING), state.step)", "_AUGMENTING), 0)", "augmentation"
    ),
    "labels of the smaller share": Fault(
        "experiments/augmentation/mixing.py", "jnp.maximum(drawn", "jnp.minimum(drawn", "augmentation"
    ),
    "recall for precision": Fault(
        "experiments/report/classes.py",
        "counts.diagonal(), counts.sum(axis=0)",
        "counts.diagonal(), counts.sum(axis=1)",
        "classes",
    ),
    "best epoch on the test set": Fault(
        "experiments/run/loop.py", 'wrong["validation"], epoch)', "wrong[names[-1]], epoch)", "best_epoch"
    ),
    "the last of equal epochs": Fault(
        "experiments/run/loop.py", "wrong < best.wrong", "wrong <= best.wrong", "best_epoch"
    ),
    "standardised with all images": Fault(
        "experiments/data/dataset.py", "sample_of(dataset.train.images)", "sample_of(dataset.test.images)", "data"
    ),
    "deviation over seeds biased": Fault(
        "experiments/report/markdown.py", "statistics.stdev(values)", "statistics.pstdev(values)", "tables runs"
    ),
    "resumed from the first step": Fault(
        "experiments/run/loop.py",
        '{"step": step, "spent": list(spent)}',
        '{"step": 0, "spent": list(spent)}',
        "resume",
        slow=True,
    ),
    "lines written twice": Fault(
        "experiments/run/metrics.py", 'if record["step"] <= step', 'if record["step"] >= 0', "runs"
    ),
    "a frozen body is trained": Fault(
        "experiments/run/training.py", " if self._head is None else split_head(params, self._head)", "", "init_from"
    ),
    "a frozen body's statistics move": Fault(
        "experiments/run/training.py", "train_head(network, self._head)", "network.train()", "init_from"
    ),
    "the old head for other classes": Fault(
        "experiments/run/transfer.py", "head if other or ", "head if ", "init_from"
    ),
    "an extension changes steps of before": Fault(
        "experiments/run/extending.py", 'count < record["step"]', "count < 0", "extending"
    ),
    "a report of before the extension": Fault(
        "experiments/run/workdir.py", '.get("extensions", []) == self.extensions', "", "extending"
    ),
    "options without effect": Fault(
        "experiments/run/idle.py", "getattr(chosen, name) != field.default", "False", "wrong_inputs"
    ),
    "integers to compute in": Fault("attgconv_jax/checks.py", ".name in FLOATS", ".name", "nn_refusals"),
    "a folder of a command that failed": Fault(
        "experiments/run/runtime.py",
        "        folder = folder.parent",
        "        folder.mkdir(parents=True)",
        "compilation_cache",
    ),
    "the option's name is lost": Fault(
        "experiments/run/messages.py", "{option} must be {wanted}", "must be {wanted}", "wrong_inputs"
    ),
    "compiled twice": Fault("experiments/run/waiting.py", "        program.compile()", "        pass", "waiting"),
    "least confident mistakes": Fault(
        "experiments/report/mistakes.py", "-confidence[wrong]", "confidence[wrong]", "report_page"
    ),
    "a legend over the curves": Fault(
        "experiments/report/figures.py", 'loc="outside upper center"', 'loc="upper center"', "report_page"
    ),
    "channels in the order of pixels": Fault(
        "experiments/data/cifar10_binary.py",
        "reshape(IMAGES, 3, SIDE, SIDE), 1, -1",
        "reshape(IMAGES, SIDE, SIDE, 3), 1, 1",
        "cifar10_binary",
    ),
    "one deviation for all channels": Fault(
        "experiments/data/dataset.py", "channel.std(dtype=np.float64)", "images.std()", "channelwise"
    ),
    "a number for every channel": Fault(
        "attgconv_jax/preprocessing.py", "np.reshape(each, shape)", "np.mean(each)", "channelwise"
    ),
    "a patience longer by one": Fault(
        "experiments/run/plateau.py", "falls = waited >= patience", "falls = waited > patience", "plateau"
    ),
    "equal accuracy is better": Fault(
        "experiments/run/loop.py",
        '["validation"] < best.wrong, config',
        '["validation"] <= best.wrong, config',
        "plateau",
    ),
    "crops never reach the end": Fault(
        "experiments/augmentation/geometry.py",
        "(len(images), 2), 0, 2 * pixels + 1)",
        "(len(images), 2), 0, 2 * pixels)",
        "augmentation",
    ),
    "mirrored up and down": Fault(
        "experiments/augmentation/geometry.py",
        "jax.random.bernoulli(key, 0.5, len(images)), 2)",
        "jax.random.bernoulli(key, 0.5, len(images)), 1)",
        "augmentation",
    ),
    "images turn the other way": Fault(
        "experiments/report/measures.py", '"ji,jxy->ixy"', '"ij,jxy->ixy"', "report_page"
    ),
}


def notices(fault: Fault) -> str | None:
    """The first test that fails in a copy of the project with the fault; None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "project"
        ignored = shutil.ignore_patterns(".*", "runs", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored)
        file = copy / fault.file
        file.write_text(file.read_text().replace(fault.right, fault.wrong))
        tests = [f"tests/test_{name}.py" for name in fault.tests.split()]
        command = [sys.executable, "-m", "pytest", "-n0", "-x", "-q", "-p", "no:cacheprovider", *tests]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        run = subprocess.run(
            [*command, *(["-m", "slow"] if fault.slow else [])],
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", run.stdout, re.MULTILINE)
    if run.returncode == 1 and failed:
        return failed[1]
    if run.returncode != 0:
        raise RuntimeError(run.stdout + run.stderr)
    return None


def main(names: list[str]) -> int:
    """Prints which test notices which fault; 1 if one is not noticed, else 0."""
    missed = 0
    for name in names or FAULTS:
        started = time.monotonic()
        test = notices(FAULTS[name])
        missed += test is None
        run = "slow" if FAULTS[name].slow else "default"
        print(f"{name} ({run}): {test or 'NOT NOTICED'}, {time.monotonic() - started:.0f} s", flush=True)
    print(f"{len(names or FAULTS) - missed} of {len(names or FAULTS)} faults are noticed")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
