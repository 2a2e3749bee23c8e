import pytest
import torch
from tiny_models import clips_of, gradients, inputs_of, tiny_model
from torch._dynamo.testing import CompileCounter
from torch.export import Dim, export


EVERYTHING = {"use_task_adapter": True, "use_info_sharing": True}
BATCHES = ((400, 300), (500, 190), (633, 90, 400))


whole_graph = pytest.mark.skipif(torch.__version__ < (2, 8), reason="PyTorch before 2.8 cannot trace a ModelOutput")


def assert_same_outputs(ours, model, batch):
    expected = model(**batch)
    num_frames = model.base_model(**batch).frame_mask.sum(-1)
    torch.testing.assert_close(ours["logits"], expected.logits, atol=5e-5, rtol=1e-5)
    for row, frames in enumerate(num_frames):  # what is beyond a clip's end is nobody's
        wanted = expected.keyword_logits[row, :frames]
        torch.testing.assert_close(ours["keyword_logits"][row, :frames], wanted, atol=5e-5, rtol=1e-5)


@whole_graph
@pytest.mark.slow
@pytest.mark.parametrize(("fields", "train"), [({}, False), (EVERYTHING, True)], ids=["mtl", "everything, training"])
def test_compiles_once_without_graph_breaks(encoder, fields, train):
    """The compiler traces the whole model once, and the graph holds for other lengths and sizes of batch."""
    model = tiny_model(**encoder, **fields).train(train)
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, dynamic=True, fullgraph=True)
    for lengths in BATCHES:
        batch = inputs_of(model, clips_of(*lengths))
        with torch.set_grad_enabled(train):
            ours = compiled(**batch)
            assert_same_outputs(ours, model, batch)
    assert counter.frame_count == 1
    if train:
        ours.logits.square().sum().backward()
        ours_gradients = gradients(model)
        model.zero_grad()
        model(**batch).logits.square().sum().backward()
        for name, gradient in gradients(model).items():
            atol = 1e-4 + 1e-5 * gradient.abs().max().item()  # of sums up to some hundreds
            torch.testing.assert_close(ours_gradients[name], gradient, atol=atol, rtol=1e-4, msg=name)


@whole_graph
@pytest.mark.slow
@pytest.mark.parametrize("is_bounded", [False, True])
def test_export(encoder, is_bounded):
    """Of any length, or of a bounded one: from two frames on."""
    model = tiny_model(**encoder, **EVERYTHING)
    batch = inputs_of(model, clips_of(*BATCHES[0]))
    size, length = Dim.DYNAMIC, Dim.DYNAMIC
    if is_bounded:
        shortest, longest = (4, 200) if model.main_input_name == "input_features" else (50, 16_000)
        size, length = Dim("batch", max=8), Dim("length", min=shortest, max=longest)
    sizes = {name: {0: size, tensor.ndim - 1: length} for name, tensor in batch.items()}
    with torch.no_grad():
        exported = export(model, (), dict(batch), dynamic_shapes=sizes).module()
        for lengths in BATCHES:
            batch = inputs_of(model, clips_of(*lengths))
            assert_same_outputs(exported(**batch), model, batch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # that it may not hold for other lengths, and that TorchScript is old
def test_trace(encoder):
    model = tiny_model(**encoder, **EVERYTHING)
    with torch.no_grad():
        traced = torch.jit.trace(
            model, example_kwarg_inputs=inputs_of(model, clips_of(*BATCHES[0])), strict=False, check_trace=False
        )
        for lengths in BATCHES:
            batch = inputs_of(model, clips_of(*lengths))
            assert_same_outputs(traced(**batch), model, batch)
