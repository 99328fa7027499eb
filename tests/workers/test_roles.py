"""The table of roles agrees with the modules that are there."""

import importlib.util
from types import SimpleNamespace

import pytest

from workers.roles import ROLES


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_role_has_its_module(role):
    assert importlib.util.find_spec(role.module) is not None


def test_names_are_unique_and_fit_into_file_names():
    names = [role.name for role in ROLES]
    assert len(set(names)) == len(names)
    assert all(name.isalpha() and name.islower() for name in names)


def test_only_delivery_is_scaled_and_by_its_setting():
    assert [role.name for role in ROLES if role.is_scaled] == ["delivery"]
    settings = SimpleNamespace(worker_concurrency=6, webhook_workers=2, redis_host="")
    assert {role.name: role.how_many(settings) for role in ROLES}["delivery"] == 6


def test_the_duty_of_a_delivery_slot_is_its_lanes():
    delivery = ROLES[0]
    settings = SimpleNamespace(express_workers=1)
    assert delivery.duty(settings, 0, 1) != delivery.duty(settings, 0, 2)
    assert delivery.duty(settings, 0, 3) == delivery.duty(settings, 0, 2)


def test_the_intake_runs_only_where_there_is_a_redis():
    intake = next(role for role in ROLES if role.name == "intake")
    assert intake.how_many(SimpleNamespace(redis_host="")) == 0
    assert intake.how_many(SimpleNamespace(redis_host="localhost")) == 1
