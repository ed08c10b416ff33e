"""The events and outputs: names, fields, statuses and cost."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time

import pytest

from desist.cancel.reason import CancelReason, Source
from desist.exceptions import UnsupportedError
from desist.run import agent, workflow
from desist.run.events import containers as container_events
from desist.run.events import steps as step_events
from desist.run.events import workflow as workflow_events
from desist.run.events.base import Abandoned, CancellationStage, CancelRecord, RunStatus

RUN_EVENTS = """run_started=RunStarted run_content=RunContent run_content_completed=RunContentCompleted
run_intermediate_content=RunIntermediateContent run_completed=RunCompleted run_error=RunError run_cancelled=RunCancelled
run_paused=RunPaused run_continued=RunContinued pre_hook_started=PreHookStarted pre_hook_completed=PreHookCompleted
post_hook_started=PostHookStarted post_hook_completed=PostHookCompleted tool_call_started=ToolCallStarted
tool_call_completed=ToolCallCompleted tool_call_error=ToolCallError tool_call_cancelled=ToolCallCancelled
reasoning_started=ReasoningStarted reasoning_step=ReasoningStep reasoning_content_delta=ReasoningContentDelta
reasoning_completed=ReasoningCompleted memory_update_started=MemoryUpdateStarted
memory_update_completed=MemoryUpdateCompleted session_summary_started=SessionSummaryStarted
session_summary_completed=SessionSummaryCompleted parser_model_response_started=ParserModelResponseStarted
parser_model_response_completed=ParserModelResponseCompleted output_model_response_started=OutputModelResponseStarted
output_model_response_completed=OutputModelResponseCompleted model_request_started=ModelRequestStarted
model_request_completed=ModelRequestCompleted compression_started=CompressionStarted
compression_completed=CompressionCompleted compaction_started=CompactionStarted
compaction_completed=CompactionCompleted followups_started=FollowupsStarted followups_completed=FollowupsCompleted
custom_event=CustomEvent"""

WORKFLOW_EVENTS = """workflow_started=WorkflowStarted workflow_completed=WorkflowCompleted
workflow_paused=WorkflowPaused workflow_cancelled=WorkflowCancelled workflow_error=WorkflowError
workflow_agent_started=WorkflowAgentStarted workflow_agent_completed=WorkflowAgentCompleted step_started=StepStarted
step_completed=StepCompleted step_cancelled=StepCancelled step_progress=StepProgress step_paused=StepPaused
step_continued=StepContinued step_executor_paused=StepExecutorPaused step_executor_continued=StepExecutorContinued
step_output_review=StepOutputReview step_error=StepError loop_execution_started=LoopExecutionStarted
loop_iteration_started=LoopIterationStarted loop_iteration_completed=LoopIterationCompleted
loop_execution_completed=LoopExecutionCompleted parallel_execution_started=ParallelExecutionStarted
parallel_execution_completed=ParallelExecutionCompleted condition_execution_started=ConditionExecutionStarted
condition_execution_completed=ConditionExecutionCompleted condition_paused=ConditionPaused
router_execution_started=RouterExecutionStarted router_execution_completed=RouterExecutionCompleted
router_paused=RouterPaused steps_execution_started=StepsExecutionStarted
steps_execution_completed=StepsExecutionCompleted step_output=StepOutput custom_event=CustomEvent"""

AGENT_BASE = """created_at event agent_id agent_name run_id parent_run_id session_id workflow_id workflow_run_id step_id
step_name step_index nested_depth tools content"""
RICH = """content_type reasoning_content model_provider_data citations response_audio references additional_input
reasoning_steps reasoning_messages"""
AGENT_FIELDS = {
    "RunStartedEvent": "model model_provider",
    "RunContentEvent": f"workflow_agent image {RICH}",
    "RunContentCompletedEvent": "",
    "IntermediateRunContentEvent": "content_type",
    "RunCompletedEvent": f"{RICH} images videos audio files metadata metrics session_state finish_reason",
    "RunErrorEvent": "error_type error_id additional_data",
    "RunCancelledEvent": "reason cancel",
    "RunPausedEvent": "requirements",
    "RunContinuedEvent": "",
    "PreHookStartedEvent": "pre_hook_name run_input",
    "PreHookCompletedEvent": "pre_hook_name run_input",
    "PostHookStartedEvent": "post_hook_name",
    "PostHookCompletedEvent": "post_hook_name",
    "ToolCallStartedEvent": "tool",
    "ToolCallCompletedEvent": "tool images videos audio files",
    "ToolCallErrorEvent": "tool error",
    "ToolCallCancelledEvent": "tool reason",
    "ReasoningStartedEvent": "",
    "ReasoningStepEvent": "content_type reasoning_content",
    "ReasoningContentDeltaEvent": "reasoning_content",
    "ReasoningCompletedEvent": "content_type",
    "ModelRequestStartedEvent": "model model_provider",
    "ModelRequestCompletedEvent": """model model_provider input_tokens output_tokens total_tokens time_to_first_token
        finish_reason reasoning_tokens cache_read_tokens cache_write_tokens""",
    "CustomEvent": "workflow_name parent_step_id",
}

WORKFLOW_BASE = """created_at event workflow_id workflow_name session_id run_id step_id parent_step_id nested_depth"""
STEP = "step_name step_index"
EXECUTOR = f"{STEP} executor_id executor_name executor_run_id executor_type"
WORKFLOW_FIELDS = {
    "WorkflowStartedEvent": "",
    "WorkflowCompletedEvent": "content content_type step_results step_executor_runs metadata metrics run_output",
    "WorkflowCancelledEvent": "reason content cancel step_results run_output",
    "WorkflowErrorEvent": "error error_type error_id additional_data",
    # Its `status`, a field elsewhere, is a constant here, as with every event of a workflow.
    "WorkflowPausedEvent": """paused_step_index paused_step_name pause_kind step_requirements step_results
        step_executor_runs content metadata""",
    "StepStartedEvent": STEP,
    "StepCompletedEvent": f"{STEP} content content_type images videos audio response_audio step_response",
    "StepCancelledEvent": f"{STEP} content reason step_response",
    "StepErrorEvent": f"{STEP} error",
    "StepProgressEvent": f"{STEP} attempt content data",
    "StepOutputEvent": f"{STEP} step_output",
    "StepPausedEvent": f"""{STEP} requires_confirmation confirmation_message requires_user_input user_input_message
        user_input_schema""",
    "StepContinuedEvent": STEP,
    "StepExecutorPausedEvent": f"{EXECUTOR} executor_requirements",
    "StepExecutorContinuedEvent": EXECUTOR,
    "StepOutputReviewEvent": f"{STEP} output_review_message requires_output_review",
    "LoopExecutionStartedEvent": f"{STEP} max_iterations",
    "LoopIterationStartedEvent": f"{STEP} iteration max_iterations",
    "LoopIterationCompletedEvent": f"{STEP} iteration max_iterations iteration_results should_continue",
    "LoopExecutionCompletedEvent": f"{STEP} total_iterations max_iterations all_results",
    "ParallelExecutionStartedEvent": f"{STEP} parallel_step_count",
    "ParallelExecutionCompletedEvent": f"{STEP} parallel_step_count step_results",
    "ConditionExecutionStartedEvent": f"{STEP} condition_result",
    "ConditionExecutionCompletedEvent": f"{STEP} condition_result executed_steps branch step_results",
    "RouterExecutionStartedEvent": f"{STEP} selected_steps",
    "RouterExecutionCompletedEvent": f"{STEP} selected_steps executed_steps step_results",
    "RouterPausedEvent": f"{STEP} available_choices user_input_message allow_multiple_selections",
    "StepsExecutionStartedEvent": f"{STEP} steps_count",
    "StepsExecutionCompletedEvent": f"{STEP} steps_count executed_steps step_results",
    "CustomEvent": "",
}

RUN_OUTPUT = f"""run_id agent_id agent_name session_id parent_run_id workflow_id user_id input content {RICH} model
model_provider messages metrics tools images videos audio files metadata session_state created_at events status
cancellation_stage requirements workflow_step_id cancel"""
WORKFLOW_RUN_OUTPUT = """input content content_type workflow_id workflow_name run_id session_id user_id parent_run_id
workflow_step_id images videos audio files response_audio step_results step_executor_runs workflow_agent_run events
metrics metadata created_at status cancellation_stage step_requirements error_requirements paused_step_index
paused_step_name pause_kind cancel"""


def members(text: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in text.split())


def field_names(kind: type) -> set[str]:
    return {f.name for f in dataclasses.fields(kind)}


def test_the_names_of_agent_events_are_those_of_the_api() -> None:
    """RunEvent has the 37 members of the API and our one."""
    assert {m.name: m.value for m in agent.RunEvent} == members(RUN_EVENTS)
    assert len(agent.RunEvent) == 38


def test_the_names_of_workflow_events_are_those_of_the_api() -> None:
    """WorkflowRunEvent has the 32 members of the API and our one."""
    assert {m.name: m.value for m in workflow.WorkflowRunEvent} == members(WORKFLOW_EVENTS)
    assert len(workflow.WorkflowRunEvent) == 33


def test_cancellation_stages_are_those_of_the_api() -> None:
    """CancellationStage has three members."""
    assert {m.name: m.value for m in CancellationStage} == members("pending=PENDING executing=EXECUTING paused=PAUSED")


@pytest.mark.parametrize("name", AGENT_FIELDS)
def test_fields_of_agent_events_are_those_of_the_api(name: str) -> None:
    """Each agent event has exactly the fields of the catalogue, ours marked there."""
    assert field_names(getattr(agent, name)) == set(f"{AGENT_BASE} {AGENT_FIELDS[name]}".split())


@pytest.mark.parametrize("name", WORKFLOW_FIELDS)
def test_fields_of_workflow_events_are_those_of_the_api(name: str) -> None:
    """Each workflow event has exactly the fields of the catalogue, ours marked there."""
    assert field_names(getattr(workflow, name)) == set(f"{WORKFLOW_BASE} {WORKFLOW_FIELDS[name]}".split())


def test_no_event_class_is_missing_from_the_lists() -> None:
    """The lists above name every event class that the rooms define, and both faces show them all."""
    made = {n for room in (workflow_events, step_events, container_events) for n in room.__all__}
    assert made | {"CustomEvent"} == set(WORKFLOW_FIELDS) and made <= set(workflow.__all__)
    assert {n for n in agent.__all__ if n.endswith("Event") and n not in {"RunEvent", "BaseAgentRunEvent"}} - {
        "RunOutputEvent"
    } == set(AGENT_FIELDS)


def test_fields_of_outputs_are_those_of_the_api() -> None:
    """Outputs have the catalogue's fields, those of features that desist doesn't have left out, and ours."""
    ours = {"error", "store_error", "continued_from"}
    assert field_names(agent.RunOutput) == set(RUN_OUTPUT.split()) | ours | {"finish_reason"}
    assert field_names(workflow.WorkflowRunOutput) == set(WORKFLOW_RUN_OUTPUT.split()) | ours | {"additional_data"}
    assert agent.RunOutput().status is RunStatus.running
    assert workflow.WorkflowRunOutput().status is RunStatus.pending


def test_an_event_holds_its_name_as_a_plain_string() -> None:
    """`event` is a str that equals the member, and is found in a list of members."""
    event = agent.RunContentEvent(content="x")
    assert type(event.event) is str
    assert event.event == agent.RunEvent.run_content
    assert event.event in [agent.RunEvent.run_started, agent.RunEvent.run_content]
    assert workflow.StepOutputEvent().event in [workflow.WorkflowRunEvent.step_output]


def test_terminal_events_have_a_real_status() -> None:
    """The status of a terminal event is a RunStatus, reads from the class too, and stands in the dict."""
    ends = {
        agent.RunCompletedEvent: RunStatus.completed,
        agent.RunCancelledEvent: RunStatus.cancelled,
        agent.RunErrorEvent: RunStatus.error,
        workflow.WorkflowCompletedEvent: RunStatus.completed,
        workflow.WorkflowCancelledEvent: RunStatus.cancelled,
        workflow.WorkflowErrorEvent: RunStatus.error,
    }
    for kind, status in ends.items():
        event = kind()
        assert event.status is status and event.is_terminal
        assert event.is_cancelled is (status is RunStatus.cancelled)
        assert event.is_error is (status is RunStatus.error)
        assert event.to_dict()["status"] == status.value
    terminal = {getattr(agent, n) for n in AGENT_FIELDS if getattr(agent, n).is_terminal}
    terminal |= {getattr(workflow, n) for n in WORKFLOW_FIELDS if getattr(workflow, n).is_terminal}
    assert terminal == set(ends)


def test_events_on_the_way_do_not_look_like_an_end() -> None:
    """Agent events on the way have no status; a workflow's say RUNNING, its pause PAUSED, and none `is_cancelled`."""
    for name in AGENT_FIELDS:
        assert hasattr(getattr(agent, name), "status") is getattr(agent, name).is_terminal
    on_the_way = [getattr(workflow, n) for n in WORKFLOW_FIELDS if not getattr(workflow, n).is_terminal]
    for kind in on_the_way:
        assert kind().status is (RunStatus.paused if kind is workflow.WorkflowPausedEvent else RunStatus.running)
        assert not kind.is_cancelled


def test_only_pieces_of_text_are_content() -> None:
    """Just the three kinds of event that carry a piece of text are dropped from a backlog."""
    content = {n for n in AGENT_FIELDS if getattr(agent, n).is_content}
    assert content == {"RunContentEvent", "IntermediateRunContentEvent", "ReasoningContentDeltaEvent"}
    assert not any(getattr(workflow, n).is_content for n in WORKFLOW_FIELDS)


def test_started_and_completed_are_not_kinds_of_each_other() -> None:
    """No event class is a subclass of another one, so that isinstance tells them apart."""
    kinds = [getattr(agent, n) for n in AGENT_FIELDS] + [getattr(workflow, n) for n in WORKFLOW_FIELDS]
    assert not [(a, b) for a in kinds for b in kinds if a is not b and issubclass(a, b)]


def test_event_index_is_set_per_event_and_is_no_field() -> None:
    """`event_index` is None until set, and to_dict doesn't send it."""
    one, two = agent.RunStartedEvent(), agent.RunStartedEvent()
    one.event_index = 7
    assert (one.event_index, two.event_index) == (7, None)
    assert "event_index" not in one.to_dict()
    assert "event_index" not in field_names(agent.RunStartedEvent)


def test_an_unknown_field_is_refused_by_name() -> None:
    """A misspelled keyword is a TypeError that names class and keyword, at the first event of a kind too."""
    for _ in range(2):
        with pytest.raises(TypeError, match=r"ReasoningStepEvent.*contnet"):
            agent.ReasoningStepEvent(contnet="x")  # type: ignore[call-arg]


def test_default_lists_are_not_shared() -> None:
    """Each event has its own lists, and its own time."""
    before = int(time.time())
    one, two = workflow.RouterExecutionStartedEvent(), workflow.RouterExecutionStartedEvent()
    one.selected_steps.append("a")
    assert two.selected_steps == []
    assert before <= one.created_at <= int(time.time())


@pytest.mark.parametrize("custom", [agent.CustomEvent, workflow.CustomEvent])
def test_a_custom_event_takes_anything(custom: type[agent.CustomEvent]) -> None:
    """Any keyword becomes an attribute and is sent; a name that would hide a method is refused by name."""
    event = custom(run_id="r", progress=0.5, note=None, parts={"a": {1, 2}})
    assert event.event == agent.RunEvent.custom_event
    assert (event.progress, event.note, event.run_id) == (0.5, None, "r")  # type: ignore[attr-defined]
    data = event.to_dict()
    assert data["progress"] == 0.5 and data["parts"] == {"a": [1, 2]} and "note" not in data
    with pytest.raises(UnsupportedError, match="to_dict"):
        custom(to_dict=1)


def test_a_custom_event_may_be_subclassed_as_a_dataclass() -> None:
    """A user's dataclass gets its own fields beside ours; its own to_dict is honoured, also inside an output."""

    @dataclasses.dataclass
    class Progress(agent.CustomEvent):
        done: int
        total: int = 10

        def to_dict(self) -> dict[str, object]:
            return {**super().to_dict(), "share": self.done / self.total}

    event = Progress(done=5, run_id="r")
    assert event.event == "CustomEvent" and event.agent_name == ""
    assert event.to_dict()["share"] == 0.5
    assert agent.RunOutput(events=[event]).to_dict()["events"][0]["share"] == 0.5


def test_a_step_output_is_within_reach_of_its_event() -> None:
    """StepOutputEvent shows content, success, error and stop of its step output."""

    @dataclasses.dataclass
    class Output:
        content: str = "text"
        success: bool = False
        error: str = "broke"
        stop: bool = True

    event = workflow.StepOutputEvent(step_output=Output())
    assert (event.content, event.success, event.error, event.stop) == ("text", False, "broke", True)
    assert (event.images, event.videos, event.audio, event.files) == (None, None, None, None)
    assert workflow.StepOutputEvent().success is True


def test_outputs_say_how_they_ended() -> None:
    """is_paused and is_cancelled follow the status; CANCELLING isn't cancelled yet."""
    for kind in (agent.RunOutput, workflow.WorkflowRunOutput):
        assert kind(status=RunStatus.paused).is_paused
        assert kind(status=RunStatus.cancelled).is_cancelled
        assert not kind(status=RunStatus.cancelling).is_cancelled
        assert kind(content=None).get_content_as_string() == ""
        assert kind(content="é").get_content_as_string() == "é"
        assert kind(content={"é": 1}).get_content_as_string() == '{\n  "é": 1\n}'


def test_a_cancel_record_starts_from_its_reason() -> None:
    """CancelRecord.of keeps source, words, who and when; the rest is filled in later."""
    reason = CancelReason(source=Source.deadline, text="too slow", by="timer", requested_at=1.5)
    record = CancelRecord.of(reason)
    assert record == CancelRecord(source=Source.deadline, reason="too slow", by="timer", requested_at=1.5)
    record.abandoned.append(Abandoned(name="search", kind="tool", blocked_in="recv", since=2.0))
    assert CancelRecord.of(reason).abandoned == []


def test_events_compare_and_print_by_their_fields() -> None:
    """Equal fields are equal events, of one class only; the text shows what is set; run_output counts for neither."""
    output = workflow.WorkflowRunOutput(run_id="r")
    event = workflow.WorkflowCompletedEvent(created_at=1, run_output=output)
    output.events = [event]
    assert event == workflow.WorkflowCompletedEvent(created_at=1)
    assert event != workflow.WorkflowStartedEvent(created_at=1) and event != "x"
    assert "run_output" not in repr(event) and "WorkflowCompletedEvent(created_at=1" in repr(output)


def test_import_is_light() -> None:
    """The events load without pydantic, and cost at most what the standard library and msgspec cost that they need."""
    code = """
import sys, time
start = time.process_time()
import dataclasses, enum, inspect, typing, base64, datetime, uuid, msgspec
middle = time.process_time()
import desist.run.agent, desist.run.workflow
end = time.process_time()
print(int("pydantic" in sys.modules), middle - start, end - middle)
"""
    best = float("inf")
    for _ in range(3):
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert told[0] == "0"
        best = min(best, float(told[2]) / float(told[1]))
    assert best < 2.5


def test_an_event_is_cheap() -> None:
    """Making a piece of content with ten fields costs no more than the same dataclass with slots, and a quarter."""

    def cost(kind: type) -> float:
        best = float("inf")
        for _ in range(15):
            start = time.process_time_ns()
            for _ in range(2000):
                kind(
                    agent_id="a",
                    agent_name="b",
                    run_id="r",
                    parent_run_id="p",
                    session_id="s",
                    workflow_id="w",
                    workflow_run_id="wr",
                    step_id="st",
                    step_name="n",
                    content="tok",
                )
            best = min(best, time.process_time_ns() - start)
        return best

    def same(f: dataclasses.Field[object]) -> dataclasses.Field[object]:
        made: dataclasses.Field[object]
        if f.default_factory is not dataclasses.MISSING:
            made = dataclasses.field(default_factory=f.default_factory)
        else:
            made = dataclasses.field(default=f.default)
        return made

    model = [(f.name, object, same(f)) for f in dataclasses.fields(agent.RunContentEvent)]
    plain = dataclasses.make_dataclass("Plain", model, kw_only=True, slots=True)
    ratios = [cost(agent.RunContentEvent) / cost(plain) for _ in range(3)]
    assert min(ratios) < 1.25
