"""Distillation: a smaller network that learns what a version answers to its training rows, beside the rows' labels.

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015), section 2: the loss is alpha times that
of the label, and 1 - alpha times what the student's answers are from the teacher's. For classes that is T^2 times the
Kullback-Leibler divergence of the probabilities at temperature T; how another task is taught stands in its head. The
student has the version's transforms in its graph, and learns by the pipeline's optimiser, batches and seed. One that is
a shallower encoder is told what layers answer too (`shallower`).

It has to earn its teacher: the same student, from the same weights and in the same order of rows, is trained by the
labels alone. Where that one answers the validation split as well, there is no variant.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from headrace_data.errors import DataError
from headrace_data.spec import DistilledVariant, ShallowerEncoder, Train
from headrace_engines.beside import Graph

from headrace_learning.errors import LearningError, NotLearnable
from headrace_learning.evaluation import answer_of
from headrace_learning.families.family import Fitted, Sources
from headrace_learning.graphs import classes_of_graph
from headrace_learning.heads.head import Teaching
from headrace_learning.large import folder_of
from headrace_learning.methods.lessons import Lesson, lesson_of, one_thread, unfit
from headrace_learning.methods.method import Made, Method, NotApplicable, Source
from headrace_learning.methods.shallower import shallower_student
from headrace_learning.methods.teaching import Distillation, Student
from headrace_learning.training.objectives import Objective
from headrace_learning.training.rows import Rows


def _make(source: Source, section: DistilledVariant) -> Made | NotApplicable:
    training = source.training
    if training is None:
        return NotApplicable("distilled: expected a version whose training rows can be read, got its graph alone")
    if reason := unfit(source.graph, training):
        return NotApplicable(f"distilled: expected {reason}")
    try:
        with one_thread():
            lesson = lesson_of(training, section.network.kind)
            return _distil(source.graph, replace(lesson, folder=folder_of(source.graph)), section)
    except (LearningError, DataError) as error:
        return NotApplicable(f"distilled: expected a student that can be trained, got: {error}")


def _distil(graph: Graph, lesson: Lesson, section: DistilledVariant) -> Made | NotApplicable:
    """Train the student with the teacher and without it, and return the former where it is better."""
    teaching = lesson.learned.teaching
    if teaching is None:
        raise NotLearnable(f"a task that is taught row by row is expected, got a {lesson.training.pipeline.task}")
    objective = Distillation(
        lesson.learned.objective, teaching.loss, lesson.rows.targets[:0], section.temperature, section.alpha
    )
    train = lesson.settings(section.network, section.epochs, section.budget / 2, section.patience, section.rate)
    answers = _answers(graph, lesson, teaching)
    if isinstance(section.network, ShallowerEncoder):
        layers, share = section.network.layers, section.hidden
        student = shallower_student(lesson, layers, share, train, objective, answers)
    else:
        student = _student(lesson, train, objective, answers)
    rows = lesson.rows
    labels = rows.targets.reshape(len(rows), -1).to(torch.float32)
    taught = Rows(rows.inputs, torch.cat([labels, student.answers], dim=1))
    with_teacher, alone = (student.learn(each, student.objective) for each in (taught, rows))
    made, other = (lesson.exported(each.network) for each in (with_teacher, alone))
    own, others = lesson.score(made), lesson.score(other)
    if not own.better_than(others):
        return NotApplicable(
            f"distilled: expected a student that is better than the same one without a teacher, which has {others}, on "
            f"{len(lesson.validation):,} rows of the validation split; got {own}"
        )
    told = {
        "temperature": f"{section.temperature:g}",
        "alpha": f"{section.alpha:g}",
        "seed": str(train.seed),
        "epochs": str(with_teacher.outcome.epochs),
        "student": f"{own} on the validation split",
        "student_without_teacher": str(others),
        "torch": torch.__version__,
    }
    return Made(made, told)


def _answers(graph: Graph, lesson: Lesson, teaching: Teaching) -> torch.Tensor:
    """Return what the version answers to the training split. Raise `NotLearnable` for answers of another question."""
    own, asked = ([str(each) for each in places] for places in (classes_of_graph(graph), lesson.places))
    if own != asked:
        raise NotLearnable(f"a version that answers {', '.join(asked)} is expected, got one of {', '.join(own)}")
    answers = teaching.read(answer_of(graph, lesson.columns, teaching.answer))
    if answers.shape[1] != lesson.outputs:
        raise NotLearnable(f"a version of {lesson.outputs} numbers for a row is expected, got {answers.shape[1]}")
    return answers


def _student(lesson: Lesson, train: Train, objective: Objective, answers: torch.Tensor) -> Student:
    """Return a network that begins with the seed's weights. Raise `NotLearnable` where there is no room for it."""
    rows = lesson.rows, lesson.validation
    held = sum(each.inputs.nbytes + each.targets.nbytes for each in rows) + answers.nbytes
    needed = lesson.family.least_bytes(train, lesson.shape, lesson.outputs, (len(rows[0]), len(rows[1])), held)
    if needed > lesson.training.memory_bytes:
        raise NotLearnable(
            f"a network that takes at most {lesson.training.memory_bytes:,} bytes of memory to learn is expected, "
            f"got one that takes {needed:,} at least"
        )

    def learn(rows: Rows, loss: Objective) -> Fitted:
        sources, run = Sources(rows, lesson.validation), lesson.run(train, "distilled")
        return lesson.family.fit(train.network, sources, loss, run)

    return Student(objective, answers, learn)


METHOD = Method(_make, large=True)
