"""Losses of TGMB, TGKT and FedProx: what they are where the answer is known."""

from __future__ import annotations

import math

import pytest
import torch

from socket_core.losses import domain_confusion, proximal, pseudo_label_loss, reconstruction, teacher_divergence
from tests.core.loss_rows import WIDTH, gradient, labels, rows


def test_a_pupil_who_repeats_the_teacher_has_no_divergence() -> None:
    x = rows(4)
    value = teacher_divergence(x.detach().softmax(1), x)
    assert float(value.detach()) == pytest.approx(0.0, abs=1e-12)
    assert gradient(lambda t: teacher_divergence(x.detach().softmax(1), t), x).abs().max() < 1e-15


def test_a_sure_teacher_asks_for_cross_entropy() -> None:
    x = rows(5)
    teacher = torch.eye(WIDTH, dtype=torch.float64)[labels(5)]  # four probabilities of five are 0
    assert float(teacher_divergence(teacher, x).detach()) == pytest.approx(
        float(pseudo_label_loss(x, labels(5)).detach()), rel=1e-12
    )
    p = x.detach().softmax(1)
    assert torch.allclose(gradient(lambda t: teacher_divergence(teacher, t), x), (p - teacher) / 5, atol=1e-15)


def test_both_domains_weigh_alike_whatever_their_sizes() -> None:
    three, one = torch.full((3,), math.log(3.0)), torch.full((1,), math.log(3.0))  # a score of 3 to 1 for TI
    expected = (math.log(4 / 3) + math.log(4)) / 2
    assert float(domain_confusion(three, one)) == pytest.approx(expected)
    assert float(domain_confusion(one, three)) == pytest.approx(expected)
    assert float(domain_confusion(torch.zeros(2), torch.zeros(5))) == pytest.approx(math.log(2))
    assert float(domain_confusion(torch.zeros(0), torch.zeros(0))) == 0.0


def test_reconstruction_of_an_image_is_the_mean_over_its_pixels() -> None:
    image = torch.zeros(2, 3, 2, 2)
    image[0, 1, 0, 1] = 6.0
    assert float(reconstruction(image, torch.zeros_like(image))) == pytest.approx(36 / 12 / 2)


def test_the_proximal_gradient_is_the_way_back() -> None:
    w = [rows(2).detach().requires_grad_(), rows(3, seed=1).detach().requires_grad_()]
    anchors = [torch.zeros(2, WIDTH, dtype=torch.float64), torch.ones(3, WIDTH, dtype=torch.float64)]
    proximal(w, anchors).backward()
    for p, start in zip(w, anchors, strict=True):
        assert p.grad is not None
        assert torch.equal(p.grad, p.detach() - start)
