"""Two instances of a service share a session: one writes it, the other watches."""

from kairos_core import RedisStateManager, Settings, SyncMode, SyncParticipant, SyncState, SyncStatus, VersionConflict

settings = Settings.from_env()
names = enumerate(["white", "black"])
players = [SyncParticipant(participant_id=name, participant_index=n, total_time_ms=600_000) for n, name in names]

with RedisStateManager.connect(settings) as here, RedisStateManager.connect(settings) as there:
    here.delete_session("table-12")  # what an earlier run left
    with there.watch_session("table-12") as updates:
        new = here.create_session(SyncState.new("table-12", SyncMode.PER_PARTICIPANT, players))
        here.update_session(new.replace(status=SyncStatus.RUNNING, active_participant_id="white"))
        try:
            here.update_session(new.replace(status=SyncStatus.CANCELLED))  # derived from version 1
        except VersionConflict as conflict:
            print("refused:", conflict)
        here.mutate_session("table-12", lambda state: state.replace(active_participant_id="black"))
        for update in updates:
            print(update.version, update.event_type, update.state and update.state.active_participant_id)
            if update.version == 3:
                break
