"""Teachers: frozen networks that are asked once about the images of a step, and about any other images."""

import pytest
import torch
import toys

from fairbench.api import Needs
from fairbench.core.errors import ContractError
from fairbench.objectives.teachers import Teachers, once


class Counting(toys.ToyNetwork):
    """A network that counts its forward passes."""

    asked = 0

    def forward(self, x):
        self.asked += 1
        return super().forward(x)


@pytest.fixture
def network():
    return Counting(4)


def test_a_teacher_is_in_eval_mode_and_its_answers_have_no_gradient(network):
    before = toys.copied(network.state_dict())
    x = toys.batch().x.requires_grad_()
    answer = Teachers({"teacher": network.train()})("teacher")(x)
    assert not answer.requires_grad
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert toys.differences(before, network.state_dict()) == []
    assert torch.equal(answer, network(x))


def test_what_it_says_of_the_images_of_a_step_is_computed_once(network):
    given = toys.batch()
    teacher = once(Teachers({"teacher": network}), given.x)
    first = teacher("teacher")(given.x)
    assert teacher("teacher")(given.x) is first
    assert network.asked == 1
    other = (given.x + 0.05).clamp(0, 1)
    assert not torch.equal(teacher("teacher")(other), first)
    assert network.asked == 2


def test_two_teachers_are_asked_apart(network):
    other, given = toys.network(seed=3), toys.batch()
    teacher = once(Teachers({"teacher": network, "natural_teacher": other}), given.x)
    assert not torch.equal(teacher("teacher")(given.x), teacher("natural_teacher")(given.x))


def test_a_teacher_that_was_not_declared_is_an_error_that_says_what_to_declare():
    for ctx in (toys.context(teacher=Teachers({})), toys.context(teacher=once(Teachers({}), toys.batch().x))):
        with pytest.raises(ContractError, match="the method has no such teacher") as error:
            ctx.teacher("teacher")
        assert 'Needs(teachers={"teacher"})' in error.value.hint


def test_a_need_for_an_unknown_teacher_is_refused():
    with pytest.raises(ContractError, match="a teacher called 'nanny' is unknown") as error:
        Needs(teachers={"nanny"})
    assert "teacher, natural_teacher" in error.value.hint
