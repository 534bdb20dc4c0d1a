"""Files that people send: read whatever a spreadsheet wrote, checked row by row, submitted as one job."""
