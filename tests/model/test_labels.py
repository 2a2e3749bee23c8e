import numpy as np
import pytest
import torch

from modeling_toxmtl.labels import scores_from_logits


def test_scores_are_sigmoids():
    assert scores_from_logits([[0.0, np.log(3)], [-np.log(3), 40.0]]).tolist() == [
        [0.5, pytest.approx(0.75)],
        [pytest.approx(0.25), 1.0],
    ]
    logits = np.linspace(-30, 30, 101)
    np.testing.assert_allclose(scores_from_logits(logits), torch.sigmoid(torch.tensor(logits)), atol=1e-15)


@pytest.mark.filterwarnings("error")
def test_scores_of_extreme_logits():
    assert scores_from_logits(np.array([-1e4, 1e4], dtype=np.float32)).tolist() == [0.0, 1.0]
