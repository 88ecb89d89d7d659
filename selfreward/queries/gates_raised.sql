-- Which health gates were raised, and why?
-- What was found, what it was held against, and what to try.
--
-- :run text = NULL  only this run
--
-- run  name of the run
-- t  the iteration
-- gate  which gate
-- state  warn, pause, or accepted (a user let it go on)
-- value  what was found
-- limit_value  what it was held against
-- message  the finding and what to try
-- checked_at  UTC
SELECT
    run.name AS run, iteration.t, gate_check.gate, gate_check.state,
    round(CAST(gate_check.value AS NUMERIC), 3) AS value, gate_check.limit_value, gate_check.message,
    gate_check.checked_at
FROM gate_check
JOIN iteration ON iteration.id = gate_check.iteration_id
JOIN run ON run.id = iteration.run_id
WHERE gate_check.state IN ('warn', 'pause', 'accepted')
  AND (:run IS NULL OR run.name = :run)
ORDER BY run.name, iteration.t, gate_check.gate
