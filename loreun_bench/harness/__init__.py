"""The harness: plan, store, records, scheduler and engines. It knows no track; a stage names the function it runs."""
