"""Looking into finished runs: explain an image, compare two runs, export one (`a3m explain | compare | export`)."""
